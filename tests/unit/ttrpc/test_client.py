"""The asyncio client, against the real server and against one that only sends bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from protos.gen import task_pb2
from shim.ttrpc import frame
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.errors import ConnectionClosed, MessageTooLarge, RemoteError
from shim.ttrpc.frame import MAX_DATA
from tests.unit.ttrpc.serving import connected, echo, forever, run, serving, settle, state


@asynccontextmanager
async def replying(path: str, *replies: bytes) -> AsyncIterator[None]:
    """A server that answers each frame with the next of `replies`, and then closes the connection.

    By frames, as two requests may arrive in one read.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            with suppress(asyncio.IncompleteReadError):  # the client has closed the connection
                header = await reader.readexactly(frame.HEADER.size)
                await reader.readexactly(int.from_bytes(header[:4], "big"))
            writer.write(reply)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(answer, path)
    try:
        yield
    finally:
        server.close()
        await settle()


def test_many_calls_share_one_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=echo) as (server, path), connected(f"unix://{path}") as client:
            ids = [str(number) for number in range(50)]
            answers = await asyncio.gather(*(state(client, id) for id in ids))
            assert [answer.id for answer in answers] == ids
            assert server.connections == 1

    run(scenario())


def test_connecting_to_nobody_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(TtrpcClient.connect(str(tmp_path / "none")))


def test_pending_and_later_calls_raise_once_the_server_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "s")
        async with replying(path, b""), connected(path) as client:
            with pytest.raises(ConnectionClosed, match="closed by the peer"):
                await state(client)
            assert client.closed
            with pytest.raises(ConnectionClosed, match="State: connection is closed"):
                await state(client)

    run(scenario())


def test_pending_and_later_calls_raise_once_the_client_is_closed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=forever) as (_, path), connected(path) as client:
            call = asyncio.create_task(state(client))
            await settle()
            client.close()
            for refused in (call, state(client)):
                with pytest.raises(ConnectionClosed):
                    await refused
            client.close()
            assert client.closed

    run(scenario())


def test_a_call_that_times_out_leaves_the_connection_usable(tmp_path: Path) -> None:
    async def scenario() -> None:
        go_on = asyncio.Event()

        async def answer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            if request.id == "slow":
                await asyncio.shield(go_on.wait())
            return await echo(request)

        async with serving(tmp_path, state=answer) as (_, path), connected(path) as client:
            with pytest.raises((TimeoutError, RemoteError)):
                await state(client, "slow", timeout_s=0.001)
            go_on.set()
            assert (await state(client, "next")).id == "next"

    run(scenario())


def test_the_client_gives_up_by_itself_and_ignores_the_late_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "s")
        late = frame.encode(1, frame.RESPONSE, b"")
        answer = frame.encode(3, frame.RESPONSE, b"\x12\x03\x0a\x01x")
        async with replying(path, b"", late + answer), connected(path) as client:
            with pytest.raises(TimeoutError):
                await state(client, timeout_s=0.001)
            assert (await state(client)).id == "x"

    run(scenario())


def test_a_cancelled_call_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "s")
        async with replying(path, b"", frame.encode(1, frame.RESPONSE, b"") * 2), connected(path) as client:
            call = asyncio.create_task(state(client))
            await settle()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert client._connection._pending == {}
            with pytest.raises(ConnectionClosed):
                await state(client)

    run(scenario())


def test_an_answer_or_an_end_that_races_with_a_cancellation_is_no_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "s")
        async with replying(path, b"", b"", b""), connected(path) as client:
            calls = [asyncio.create_task(state(client)) for _ in range(2)]
            await settle()
            for call in calls:
                call.cancel()
            client._connection.data_received(frame.encode(1, frame.RESPONSE, b""))
            client.close()
            for call in calls:
                with pytest.raises(asyncio.CancelledError):
                    await call

    run(scenario())


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (b"\x0a\x05\x08\x05\x12\x01x", 5, "x"),
        (b"\xff", 13, "data of 1 bytes is no ttrpc Response"),
        (b"\x12\x01\xff", 13, "State: 1 bytes are no containerd.task.v2.StateResponse"),
    ],
    ids=["error status", "no Response", "not the method's message"],
)
def test_answers_that_are_errors(tmp_path: Path, reply: bytes, code: int, message: str) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "s")
        async with replying(path, frame.encode(1, frame.RESPONSE, reply)), connected(path) as client:
            with pytest.raises(RemoteError) as caught:
                await state(client)
            assert caught.value.code == code
            assert caught.value.message.endswith(message)
            assert str(caught.value) == f"{caught.value.message} (code {code})"

    run(scenario())


def test_a_request_that_does_not_fit_raises_and_leaves_the_connection_usable(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=echo) as (_, path), connected(path) as client:
            with pytest.raises(MessageTooLarge):
                await state(client, "x" * MAX_DATA)
            assert (await state(client, "y")).id == "y"

    run(scenario())


def test_an_answer_cut_in_two_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        path = str(tmp_path / "s")
        async with replying(path, b"\x00\x00"), connected(path) as client:
            with pytest.raises(ConnectionClosed):
                await state(client)

    asyncio.run(scenario())
    assert "connection ended in the middle of a frame" in caplog.messages
