"""Connections to the server: who is let in, how they end, and what they carry, over real unix sockets."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from protos.gen import task_pb2
from runtime.linux.pidfd import Peer
from shim.ttrpc import frame
from shim.ttrpc.envelope import encode_request
from shim.ttrpc.errors import ConnectionClosed, RemoteError
from shim.ttrpc.server import TtrpcServer, _Connection
from shim.ttrpc.service import bind
from tests.unit.ttrpc.serving import (
    DESCRIPTOR,
    TASK,
    FakeTask,
    connected,
    echo,
    forever,
    listener,
    run,
    serving,
    settle,
    state,
    status_of,
)


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

    run(scenario())


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

    run(scenario())


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


def test_each_connection_is_reported_once_it_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=echo) as (server, path):
            seen: list[int] = []
            server.on_connection = lambda: seen.append(server.connections)
            async with connected(path) as first, connected(path) as second:
                await asyncio.gather(state(first), state(second))
                assert seen == [1, 2]

    run(scenario())


def test_a_peer_that_is_not_authorized_is_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[object] = []

        def refuse(peer: Peer) -> bool:
            seen.append(peer)
            return False

        server = TtrpcServer(
            [bind(DESCRIPTOR, FakeTask(state=echo))],
            status_of=status_of,
            authorize=refuse,
            on_connection=lambda: seen.append("a connection"),
        )
        path = str(tmp_path / "s")
        await server.start(listener(path))
        async with connected(path) as client:
            with pytest.raises(ConnectionClosed):
                await state(client)
            assert client.closed
        assert [type(peer) for peer in seen] == [Peer]
        server.close()

    run(scenario())


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
                server.ending = ("State",)  # who asks for no more than that is told that it is
                assert (await state(client)).id == ""
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_unix_connection(path)
                go_on.set()
                assert len((await running).id) == 1_000_000
                assert await drained
                await settle()
                assert client.closed
            assert server.connections == 0

    run(scenario())
    assert (tmp_path / "s").is_socket()  # unlinking it is the caller's, before draining


def test_draining_without_connections_ends_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (server, path):
            assert await server.drain(60)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_unix_connection(path)

    run(scenario())


def test_draining_cuts_off_a_handler_that_does_not_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path, state=forever) as (server, path), connected(path) as client:
            call = asyncio.create_task(state(client))
            await settle()
            assert not await server.drain(0.001)
            with pytest.raises(ConnectionClosed):
                await call
            assert server.connections == 0

    run(scenario())


def test_who_does_not_read_answers_gets_no_more_requests_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        served = 0

        async def answer(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
            nonlocal served
            served += 1
            return await echo(request)

        count, room = 40, 1_000_000
        request = task_pb2.StateRequest(id="x" * room).SerializeToString()
        data = encode_request(TASK, "State", request)
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
            data = encode_request(TASK, "State", b"\x0a\x01x")
            connection.data_received(frame.encode(1, frame.REQUEST, data))
            connection.data_received(frame.encode(2, frame.REQUEST, b"") * 2)
            await settle()
            refusals, response = sorted(transport.writes, key=len, reverse=True)
            assert response == b"\x00\x00\x00\x05\x00\x00\x00\x01\x02\x00\x12\x03\x0a\x01x"
            assert refusals.count(b"stream id 2 is not odd") == 2

    run(scenario())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.Task has no eager_start")
def test_a_handler_that_does_not_wait_is_answered_without_another_pass_of_the_loop() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        answers: list[None] = []
        with left, right:
            transport = RecordingTransport(left)
            services = [bind(DESCRIPTOR, FakeTask(state=echo))]
            server = TtrpcServer(services, status_of=status_of, on_answer=lambda: answers.append(None))
            connection = _Connection(server)
            connection.connection_made(transport)
            connection.data_received(frame.encode(1, frame.REQUEST, encode_request(TASK, "State", b"\x0a\x01x")))
            assert (len(transport.writes), len(answers), connection.tasks) == (1, 1, set())

    run(scenario())
