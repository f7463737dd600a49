"""What becomes of a request, over real unix sockets."""

import asyncio
import logging
from pathlib import Path

import pytest

from protos.gen import task_pb2
from protos.gen.ttrpc_pb2 import Response
from shim.ttrpc import frame
from shim.ttrpc.envelope import encode_request
from shim.ttrpc.errors import RemoteError
from shim.ttrpc.frame import MAX_DATA
from tests.unit.ttrpc.serving import (
    TASK,
    NotThere,
    connected,
    echo,
    forever,
    run,
    serving,
    settle,
    state,
)


def test_a_call_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=echo) as (_, path), connected(path) as client:
            assert await state(client, "x") == task_pb2.StateResponse(id="x")

    run(scenario())


def now(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
    """A handler that never waits."""
    match request.id:
        case "missing":
            raise NotThere("it is not there")
        case "bug":
            raise KeyError(request.id)
        case "wrong":
            return task_pb2.WaitResponse()  # type: ignore[return-value]
    return task_pb2.StateResponse(id=request.id)


def test_a_handler_that_never_waits_is_answered_without_a_task(tmp_path: Path) -> None:
    async def scenario() -> None:
        tasks = set[asyncio.Task[object]]()

        def counted(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            tasks.update(asyncio.all_tasks())
            return now(request)

        async with serving(tmp_path, state=counted) as (server, path), connected(path) as client:
            answered = []
            server.on_answer = lambda: answered.append(len(answered))
            before = asyncio.all_tasks()
            assert await state(client, "x") == task_pb2.StateResponse(id="x")
            assert tasks <= before
            assert answered == [0]
            many = await asyncio.gather(*(state(client, str(number)) for number in range(500)))
            assert [int(one.id) for one in many] == list(range(500))

    run(scenario())


def test_a_handler_that_never_waits_fails_like_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=now) as (server, path), connected(path) as client:
            answered = []
            server.on_answer = lambda: answered.append(1)
            for name, code, text in (
                ("missing", 5, "it is not there"),
                ("bug", 2, "internal error"),
                ("wrong", 2, "internal error"),
            ):
                with pytest.raises(RemoteError) as caught:
                    await state(client, name)
                assert (caught.value.code, caught.value.message) == (code, text)
            assert len(answered) == 3
            assert await state(client, "x") == task_pb2.StateResponse(id="x")

    run(scenario())
    assert [record.getMessage() for record in caplog.records] == [f"bug in {TASK}/State"] * 2


def test_a_handler_that_never_waits_is_not_called_for_a_request_that_is_late(tmp_path: Path) -> None:
    async def scenario() -> None:
        called = []

        def note(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            called.append(request.id)
            return now(request)

        async with serving(tmp_path, state=note) as (_, path):
            request = encode_request(TASK, "State", b"", -5)
            assert await exchange(path, frame.encode(1, frame.REQUEST, request), 1) == [
                (1, 4, "context deadline exceeded")
            ]
        assert called == []

    run(scenario())


def test_requests_of_one_connection_run_at_the_same_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        second_came = asyncio.Event()

        async def answer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            if request.id == "second":
                second_came.set()
            await second_came.wait()
            return await echo(request)

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            answers = await asyncio.gather(state(client, "first"), state(client, "second"))
            assert [answer.id for answer in answers] == ["first", "second"]

    run(scenario())


def test_a_handler_whose_time_runs_out_is_cancelled_and_answered_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def answer(request: object) -> None:
            try:
                await forever(request)
            finally:
                cancelled.set()

        async with serving(tmp_path, state=answer) as (_, path):
            request = encode_request(TASK, "State", b"", 1_000_000)
            assert await exchange(path, frame.encode(1, frame.REQUEST, request), 1) == [
                (1, 4, "context deadline exceeded")
            ]
            assert cancelled.is_set()

    run(scenario())


def test_a_request_that_is_late_already_never_reaches_its_handler(tmp_path: Path) -> None:
    async def scenario() -> None:
        calls: list[object] = []

        async def answer(request: object) -> None:
            calls.append(request)

        async with serving(tmp_path, state=answer) as (_, path):
            request = encode_request(TASK, "State", b"", -5)
            assert await exchange(path, frame.encode(1, frame.REQUEST, request), 1) == [
                (1, 4, "context deadline exceeded")
            ]
            assert calls == []

    run(scenario())


def test_a_time_out_inside_a_handler_is_an_error_like_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def answer(request: object) -> None:
            raise TimeoutError("the runtime is slow")

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            with pytest.raises(RemoteError, match="the runtime is slow") as caught:
                await state(client, timeout_s=60)
            assert caught.value.code == 5

    run(scenario())


def test_known_errors_get_their_status_and_no_word_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async def answer(request: object) -> None:
            raise NotThere("container not created: not found")

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            with pytest.raises(RemoteError) as caught:
                await state(client)
            assert (caught.value.code, caught.value.message) == (5, "container not created: not found")

    asyncio.run(scenario())
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def buggy(request: object) -> None:
    raise KeyError("x")


async def mistyped(request: object) -> task_pb2.WaitResponse:
    return task_pb2.WaitResponse()


async def silent(request: object) -> None:
    return None


@pytest.mark.parametrize(("handler", "error"), [(buggy, KeyError), (mistyped, TypeError), (silent, TypeError)])
def test_a_bug_is_logged_once_with_its_traceback_and_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, handler: object, error: type[Exception]
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=handler) as (_, path), connected(path) as client:  # type: ignore[arg-type]
            with pytest.raises(RemoteError) as caught:
                await state(client)
            assert (caught.value.code, caught.value.message) == (2, "internal error")

    asyncio.run(scenario())
    (record,) = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert record.getMessage() == "bug in containerd.task.v2.Task/State"
    assert record.exc_info
    assert record.exc_info[0] is error


def test_a_handler_that_is_cancelled_from_inside_is_answered_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def answer(request: object) -> None:
            raise asyncio.CancelledError

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            with pytest.raises(RemoteError, match="context canceled") as caught:
                await state(client)
            assert caught.value.code == 1

    run(scenario())


def test_a_body_of_four_mebibytes_passes_in_both_directions(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=echo) as (_, path), connected(path) as client:
            id = "x" * (MAX_DATA - 100)  # room for the envelope
            assert (await state(client, id)).id == id

    asyncio.run(scenario())


def test_a_larger_response_becomes_an_error_and_the_connection_stays_up(tmp_path: Path) -> None:
    async def longer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
        return task_pb2.StateResponse(id=request.id * MAX_DATA)

    async def scenario() -> None:
        async with serving(tmp_path, state=longer) as (_, path), connected(path) as client:
            with pytest.raises(RemoteError, match=r"response of \d+ bytes is over the limit of") as caught:
                await state(client, "x")
            assert caught.value.code == 8
            assert await state(client) == task_pb2.StateResponse()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("service", "method", "payload", "code", "message"),
    [
        ("a.B", "State", b"", 12, "service a.B"),
        (TASK, "Juggle", b"", 12, "method Juggle"),
        (TASK, "__init__", b"", 12, "method __init__"),
        (TASK, "State", b"\xff", 13, "payload of 1 bytes is no containerd.task.v2.StateRequest"),
    ],
)
def test_what_cannot_be_served_is_answered_and_the_connection_stays_up(
    tmp_path: Path, service: str, method: str, payload: bytes, code: int, message: str
) -> None:
    async def scenario() -> None:
        bad = frame.encode(1, frame.REQUEST, encode_request(service, method, payload))
        good = frame.encode(3, frame.REQUEST, encode_request(TASK, "State", b""))
        async with serving(tmp_path, state=echo) as (_, path):
            assert await exchange(path, bad + good, 2) == [(1, code, message), (3, 0, "")]

    run(scenario())


def test_a_bad_frame_is_answered_logged_and_the_connection_stays_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        good = frame.encode(3, frame.REQUEST, encode_request(TASK, "State", b""))
        async with serving(tmp_path, state=echo) as (_, path):
            replies = await exchange(path, frame.encode(2, frame.REQUEST, b"") + good, 2)
            assert replies == [(2, 3, "stream id 2 is not odd"), (3, 0, "")]

    asyncio.run(scenario())
    assert "refused stream 2: code 3: stream id 2 is not odd" in caplog.messages


def test_a_request_with_metadata_is_answered_like_any_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        plain = encode_request(TASK, "State", b"")
        with_metadata = plain + b"\x2a\x06\x0a\x01k\x12\x01v" + b"\x2a\x06\x0a\x01k\x12\x01w"
        async with serving(tmp_path, state=echo) as (_, path):
            sent = frame.encode(1, frame.REQUEST, with_metadata) + frame.encode(3, frame.REQUEST, plain)
            assert await exchange(path, sent, 2) == [(1, 0, ""), (3, 0, "")]

    run(scenario())


async def exchange(path: str, data: bytes, replies: int) -> list[tuple[int, int, str]]:
    """Send raw bytes; return so many replies as (stream id, code, message), by stream id."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    found = []
    for _ in range(replies):
        length, stream_id, kind, flags = frame.HEADER.unpack(await reader.readexactly(frame.HEADER.size))
        assert (kind, flags) == (frame.RESPONSE, 0)
        status = Response.FromString(await reader.readexactly(length)).status
        found.append((stream_id, status.code, status.message))
    writer.close()
    await writer.wait_closed()
    await settle()
    return sorted(found)
