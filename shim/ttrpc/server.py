"""The asyncio side of a server: sockets, tasks and deadlines around `connection.ServerConnection`.

Each request runs as a task of its own, except where its handler never waits; requests have no order. A handler is
cancelled when its request's deadline passes and when its connection is lost, as Go's server cancels contexts. Work
that must not be left half done has to shield itself. Without requests nothing runs, and no timer is set.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import cast

from google.protobuf.message import DecodeError, Message

from runtime.linux.pidfd import Peer, peer_of
from shim import eager
from shim.ttrpc.connection import ServerConnection
from shim.ttrpc.errors import Code, ProtocolError
from shim.ttrpc.events import RequestReceived, StreamRefused
from shim.ttrpc.service import Method, Service

StatusOf = Callable[[Exception], tuple[int, str] | None]

_log = logging.getLogger(__name__)


def same_owner(peer: Peer) -> bool:
    """Whether the peer has our effective uid and gid; containerd's own shims accept the same peers."""
    return peer.uid == os.geteuid() and peer.gid == os.getegid()


class TtrpcServer:
    """Serves `services` on a listening unix socket, to any number of connections.

    `status_of` returns the code, not 0, and the message for an exception of a handler; None means a bug, which
    is logged with its traceback and answered as Unknown. `authorize` accepts or refuses each new connection.
    `on_connection` is called when one has been accepted, `on_answer` when a request has been handled. `ending` names
    methods that only ask the server to end: while it shuts down they succeed, and other methods get Unavailable.
    """

    def __init__(
        self,
        services: Iterable[Service],
        *,
        status_of: StatusOf,
        authorize: Callable[[Peer], bool] = same_owner,
        on_connection: Callable[[], None] | None = None,
        on_answer: Callable[[], None] | None = None,
        ending: Collection[str] = (),
    ) -> None:
        self.services = {service.name: service for service in services}
        self.status_of = status_of
        self.authorize = authorize
        self.on_connection = on_connection
        self.on_answer = on_answer
        self.ending = ending
        self.draining = False
        self._connections: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def start(self, sock: socket.socket) -> None:
        """Serve on `sock`, which already listens. The server closes it; the caller unlinks its path."""
        # Not create_unix_server: from Python 3.13 on it removes the socket's path when it closes.
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), sock=sock, backlog=128)

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new requests with Unavailable, let the running ones be answered, then close.

        Returns whether all answers were written within `timeout_s`; after that the connections are cut off. A
        handler must not call this: it would wait for itself.
        """
        self.draining = True
        self._stop_listening()
        try:
            async with asyncio.timeout(timeout_s):
                while tasks := [task for connection in self._connections for task in connection.tasks]:
                    await asyncio.wait(tasks)
                for connection in tuple(self._connections):
                    connection.finish()
                if self._connections:
                    self._emptied = asyncio.get_running_loop().create_future()
                    await self._emptied
        except TimeoutError:
            return False
        finally:
            self.close()
        return True

    def close(self) -> None:
        """Stop now: accept no connections, cut off the open ones and cancel their handlers. May be repeated."""
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.abort()

    def opened(self, connection: "_Connection") -> None:
        """Called by a connection that was accepted."""
        self._connections.add(connection)
        if self.on_connection:
            self.on_connection()

    def lost(self, connection: "_Connection") -> None:
        """Called by a connection that is gone."""
        if connection not in self._connections:
            return  # it was never accepted
        self._connections.remove(connection)
        if self._emptied and not self._connections and not self._emptied.done():
            self._emptied.set_result(None)

    def _stop_listening(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None


class _Connection(asyncio.Protocol):
    """One connection: feeds the core, runs the requests, and writes the core's bytes."""

    __slots__ = ("_core", "_server", "_transport", "peer", "tasks")

    _transport: asyncio.Transport
    peer: Peer

    def __init__(self, server: TtrpcServer) -> None:
        self._server = server
        self._core = ServerConnection()
        self.tasks: set[asyncio.Task[None]] = set()

    def finish(self) -> None:
        """Close once what is buffered has been written."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = peer_of(transport.get_extra_info("socket"))
        if self._server.authorize(self.peer):
            self._server.opened(self)
        else:
            _log.warning("refused a connection from %s", self.peer)
            transport.abort()

    def data_received(self, data: bytes) -> None:
        events = self._core.receive_data(data)
        self._flush()  # the core may have answered frames itself
        for event in events:
            match event:
                case RequestReceived():
                    self._accept(event)
                case StreamRefused():
                    _log_refused(event)

    def eof_received(self) -> None:
        try:
            self._core.receive_eof()
        except ProtocolError as err:
            _log.warning("%s: %s", self.peer, err)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self.tasks:
            task.cancel()
        self._server.lost(self)

    def pause_writing(self) -> None:
        self._transport.pause_reading()  # serve no more requests of a peer that does not read answers

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def _accept(self, request: RequestReceived) -> None:
        """Start a task for `request`, or answer it where it cannot be served."""
        service = self._server.services.get(request.service)
        method = service.methods.get(request.method) if service else None
        if self._server.draining and method is not None and request.method in self._server.ending:
            self._succeed(request, b"")
        elif self._server.draining:
            self._fail(request, Code.UNAVAILABLE, "server is shutting down: unavailable")
        elif service is None:
            self._fail(request, Code.UNIMPLEMENTED, f"service {request.service}")
        elif method is None:
            self._fail(request, Code.UNIMPLEMENTED, f"method {request.method}")
        elif request.timeout_ns is not None and request.timeout_ns <= 0:
            self._fail(request, Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        else:
            self._start(request, method)

    def _start(self, request: RequestReceived, method: Method) -> None:
        try:
            message = method.decode(request.payload)
        except DecodeError:
            wanted = method.request_type.DESCRIPTOR.full_name
            text = f"payload of {len(request.payload)} bytes is no {wanted}"
            self._fail(request, Code.INTERNAL, text)
            return
        if not method.waits:
            self._serve_now(request, method, message)
            return
        task = eager.start(self._serve(request, method, message))
        if task.done():
            self._served(task)
        else:
            self.tasks.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self._server.on_answer:
            self._server.on_answer()

    def _serve_now(self, request: RequestReceived, method: Method, message: Message) -> None:
        """Call a handler that never waits, and answer."""
        try:
            payload = method.encode(cast("Message | None", method.call(message)))
        except Exception as exc:
            self._fail(request, *self._status_of(request, exc))
        else:
            self._succeed(request, payload)
        if self._server.on_answer:
            self._server.on_answer()

    async def _serve(self, request: RequestReceived, method: Method, message: Message) -> None:
        """Run the handler and answer `request`, whatever happens."""
        deadline = None
        if request.timeout_ns is not None:
            deadline = asyncio.get_running_loop().time() + request.timeout_ns / 1e9
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                response = await cast("Awaitable[Message | None]", method.call(message))
            payload = method.encode(response)
        except asyncio.CancelledError:
            self._fail(request, Code.CANCELLED, "context canceled")
            raise
        except Exception as exc:
            if limit.expired() and isinstance(exc, TimeoutError):
                self._fail(request, Code.DEADLINE_EXCEEDED, "context deadline exceeded")
            else:
                self._fail(request, *self._status_of(request, exc))
        else:
            self._succeed(request, payload)

    def _status_of(self, request: RequestReceived, exc: Exception) -> tuple[int, str]:
        known = self._server.status_of(exc)
        if known is None:
            _log.error("bug in %s/%s", request.service, request.method, exc_info=exc)
            return Code.UNKNOWN, "internal error"
        return known

    def _succeed(self, request: RequestReceived, payload: bytes) -> None:
        refused = self._core.send_response(request.stream_id, payload)
        if refused:
            _log_refused(refused)
        self._flush()

    def _fail(self, request: RequestReceived, code: int, text: str) -> None:
        _log.debug("%s/%s: code %d: %s", request.service, request.method, code, text)
        self._core.send_error(request.stream_id, code, text)
        self._flush()

    def _flush(self) -> None:
        """Write all bytes of the core at once; nothing if the peer is gone."""
        data = self._core.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)


def _log_refused(event: StreamRefused) -> None:
    _log.warning("refused stream %d: code %d: %s", event.stream_id, event.code, event.reason)
