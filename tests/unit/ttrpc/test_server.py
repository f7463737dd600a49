"""The asyncio server over real unix sockets."""

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from protos.gen import task_pb2
from protos.gen.ttrpc_pb2 import Response
from shim.ttrpc import frame
from shim.ttrpc.envelope import encode_request
from shim.ttrpc.errors import ConnectionClosed, RemoteError
from shim.ttrpc.frame import MAX_DATA
from shim.ttrpc.peer import Peer
from shim.ttrpc.server import TtrpcServer, _Connection
from shim.ttrpc.service import RequestContext, bind, current_request
from tests.unit.ttrpc.serving import (
    DESCRIPTOR,
    TASK,
    FakeTask,
    NotThere,
    connected,
    listener,
    serving,
    settle,
    state,
    status_of,
)


async def echo(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
    return task_pb2.StateResponse(id=request.id)


async def forever(request: object) -> None:
    await asyncio.Event().wait()


def test_a_call_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=echo) as (_, path), connected(path) as client:
            assert await state(client, "x") == task_pb2.StateResponse(id="x")

    asyncio.run(scenario(), debug=True)


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

    asyncio.run(scenario(), debug=True)


def test_a_hundred_connections_are_served_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        everybody_came = asyncio.Barrier(100)

        async def answer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            await everybody_came.wait()
            return await echo(request)

        async def one(path: str, id: str) -> str:
            async with connected(path) as client:
                return (await state(client, id)).id

        async with serving(tmp_path, state=answer) as (server, path):
            ids = [str(number) for number in range(100)]
            assert await asyncio.gather(*(one(path, id) for id in ids)) == ids
            await settle()
            assert server.connections == 0

    asyncio.run(scenario(), debug=True)


def test_a_handler_whose_time_runs_out_is_cancelled_and_answered_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def answer(request: object) -> None:
            try:
                await forever(request)
            finally:
                cancelled.set()

        async with serving(tmp_path, state=answer) as (_, path):
            request = encode_request(TASK, "State", b"", 1_000_000, ())
            assert await exchange(path, frame.encode(1, frame.REQUEST, request), 1) == [
                (1, 4, "context deadline exceeded")
            ]
            assert cancelled.is_set()

    asyncio.run(scenario(), debug=True)


def test_a_request_that_is_late_already_never_reaches_its_handler(tmp_path: Path) -> None:
    async def scenario() -> None:
        calls: list[object] = []

        async def answer(request: object) -> None:
            calls.append(request)

        async with serving(tmp_path, state=answer) as (_, path):
            request = encode_request(TASK, "State", b"", -5, ())
            assert await exchange(path, frame.encode(1, frame.REQUEST, request), 1) == [
                (1, 4, "context deadline exceeded")
            ]
            assert calls == []

    asyncio.run(scenario(), debug=True)


def test_a_time_out_inside_a_handler_is_an_error_like_others(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def answer(request: object) -> None:
            raise TimeoutError("the runtime is slow")

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            with pytest.raises(RemoteError, match="the runtime is slow") as caught:
                await state(client, timeout_s=60)
            assert caught.value.code == 5

    asyncio.run(scenario(), debug=True)


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


def test_losing_the_connection_cancels_its_handlers_but_not_what_they_shield(tmp_path: Path) -> None:
    async def scenario() -> None:
        started, cancelled, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
        inner: list[asyncio.Task[bool]] = []

        async def answer(request: object) -> None:
            inner.append(asyncio.create_task(go_on.wait()))
            started.set()
            try:
                await asyncio.shield(inner[0])
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with serving(tmp_path, create=answer, state=echo) as (server, path), connected(path) as other:
            async with connected(path) as client:
                call = asyncio.create_task(
                    client.call(TASK, "Create", task_pb2.CreateTaskRequest(), task_pb2.CreateTaskResponse)
                )
                await started.wait()
            with pytest.raises(ConnectionClosed):
                await call
            await cancelled.wait()
            assert not inner[0].cancelled()
            go_on.set()
            assert await inner[0]
            assert (await state(other, "still here")).id == "still here"
            assert server.connections == 1

    asyncio.run(scenario(), debug=True)


def test_a_handler_that_is_cancelled_from_inside_is_answered_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async def answer(request: object) -> None:
            raise asyncio.CancelledError

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            with pytest.raises(RemoteError, match="context canceled") as caught:
                await state(client)
            assert caught.value.code == 1

    asyncio.run(scenario(), debug=True)


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
        bad = frame.encode(1, frame.REQUEST, encode_request(service, method, payload, None, ()))
        good = frame.encode(3, frame.REQUEST, encode_request(TASK, "State", b"", None, ()))
        async with serving(tmp_path, state=echo) as (_, path):
            assert await exchange(path, bad + good, 2) == [(1, code, message), (3, 0, "")]

    asyncio.run(scenario(), debug=True)


def test_a_bad_frame_is_answered_logged_and_the_connection_stays_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        good = frame.encode(3, frame.REQUEST, encode_request(TASK, "State", b"", None, ()))
        async with serving(tmp_path, state=echo) as (_, path):
            replies = await exchange(path, frame.encode(2, frame.REQUEST, b"") + good, 2)
            assert replies == [(2, 3, "stream id 2 is not odd"), (3, 0, "")]

    asyncio.run(scenario())
    assert "refused stream 2: code 3: stream id 2 is not odd" in caplog.messages


def test_a_connection_that_ends_inside_a_frame_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, path):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(b"\x00\x00")
            writer.close()
            await writer.wait_closed()
            await settle()
            assert server.connections == 0

    asyncio.run(scenario())
    assert any("in the middle of a frame" in message for message in caplog.messages)


def test_a_peer_that_is_not_authorized_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[object] = []
        server = TtrpcServer(
            [bind(DESCRIPTOR, FakeTask(state=echo))],
            status_of=status_of,
            authorize=lambda peer: seen.append(peer) or False,
            on_connect=seen.append,
            on_disconnect=seen.append,
        )
        path = str(tmp_path / "s")
        await server.start(listener(path))
        async with connected(path) as client:
            with pytest.raises(ConnectionClosed):
                await state(client)
            assert client.closed
        assert [type(peer) for peer in seen] == [Peer]
        server.close()

    asyncio.run(scenario(), debug=True)


def test_coming_and_going_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        log: list[tuple[str, int]] = []
        server = TtrpcServer(
            [bind(DESCRIPTOR, FakeTask(state=echo))],
            status_of=status_of,
            on_connect=lambda peer: log.append(("came", server.connections)),
            on_disconnect=lambda peer: log.append(("went", server.connections)),
        )
        path = str(tmp_path / "s")
        await server.start(listener(path))
        async with connected(path) as client:
            await state(client)
            assert log == [("came", 1)]
        assert log == [("came", 1), ("went", 0)]
        server.close()

    asyncio.run(scenario(), debug=True)


def test_a_handler_can_learn_about_its_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[RequestContext] = []

        async def answer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            seen.append(current_request())
            return await echo(request)

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            before = asyncio.get_running_loop().time()
            await client.call(
                TASK, "State", task_pb2.StateRequest(), task_pb2.StateResponse, 60, (("k", "v"), ("k", "w"))
            )
            await state(client)
        first, second = seen
        assert first.deadline is not None
        assert 59 < first.deadline - before < 61
        assert (first.service, first.method, first.metadata) == (TASK, "State", (("k", "v"), ("k", "w")))
        assert second == RequestContext(TASK, "State", None, ())

    asyncio.run(scenario(), debug=True)


def test_draining_answers_what_runs_and_refuses_what_comes(tmp_path: Path) -> None:
    async def scenario() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def answer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            started.set()
            await go_on.wait()
            return task_pb2.StateResponse(id="x" * 1_000_000)

        async with serving(tmp_path, state=answer) as (server, path):
            async with connected(path) as client:
                running = asyncio.create_task(state(client))
                await started.wait()
                drained = asyncio.create_task(server.drain(60))
                await settle()
                with pytest.raises(RemoteError, match="shutting down") as caught:
                    await state(client)
                assert caught.value.code == 14
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_unix_connection(path)
                go_on.set()
                assert len((await running).id) == 1_000_000
                assert await drained
                await settle()
                assert client.closed
            assert server.connections == 0

    asyncio.run(scenario(), debug=True)
    assert (tmp_path / "s").is_socket()  # unlinking it is the caller's, before draining


def test_draining_cuts_off_a_handler_that_does_not_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=forever) as (server, path), connected(path) as client:
            call = asyncio.create_task(state(client))
            await settle()
            assert not await server.drain(0.001)
            with pytest.raises(ConnectionClosed):
                await call
            assert server.connections == 0

    asyncio.run(scenario(), debug=True)


def test_who_does_not_read_answers_gets_no_more_requests_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        served = 0

        async def answer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            nonlocal served
            served += 1
            return await echo(request)

        count, room = 40, 1_000_000
        request = task_pb2.StateRequest(id="x" * room).SerializeToString()
        data = encode_request(TASK, "State", request, None, ())
        wire = b"".join(frame.encode(2 * n + 1, frame.REQUEST, data) for n in range(count))
        async with serving(tmp_path, state=answer) as (_, path):
            loop = asyncio.get_running_loop()
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, path)
                sending = asyncio.create_task(loop.sock_sendall(sock, wire))
                for _ in range(20):
                    await settle()
                assert not sending.done()
                assert served < 5
                buffer, replies = frame.FrameBuffer(), 0
                while replies < count:
                    buffer.feed(await loop.sock_recv(sock, 1 << 20))
                    replies += len(list(iter(buffer.next_frame, None)))
                await sending
            assert served == count

    asyncio.run(scenario())


class RecordingTransport(asyncio.Transport):
    """Remembers what was written, write by write."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.writes.append(data)

    def is_closing(self) -> bool:
        return False


def test_each_response_is_one_write() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        with left, right:
            transport = RecordingTransport(left)
            connection = _Connection(TtrpcServer([bind(DESCRIPTOR, FakeTask(state=echo))], status_of=status_of))
            connection.connection_made(transport)
            data = encode_request(TASK, "State", b"\x0a\x01x", None, ())
            connection.data_received(frame.encode(1, frame.REQUEST, data))
            connection.data_received(frame.encode(2, frame.REQUEST, b"") * 2)
            assert len(transport.writes) == 1  # both refusals
            await settle()
            assert transport.writes[1:] == [b"\x00\x00\x00\x05\x00\x00\x00\x01\x02\x00\x12\x03\x0a\x01x"]

    asyncio.run(scenario(), debug=True)


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
