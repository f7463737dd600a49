"""The asyncio side of a client: one connection, any number of calls at a time, around `ClientConnection`."""

import asyncio
import logging
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from shim.ttrpc.connection import ClientConnection
from shim.ttrpc.errors import Code, ConnectionClosed, ProtocolError, RemoteError
from shim.ttrpc.events import CallFailed, FrameIgnored, ResponseReceived

_Response = TypeVar("_Response", bound=Message)

_log = logging.getLogger(__name__)


class TtrpcClient:
    """A connection to a ttrpc server. Make it with `connect`; once either side has closed it, it stays closed."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "_Connection") -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, path: str) -> "TtrpcClient":
        """Connect to the unix socket at `path`; a `unix://` in front is dropped. Raises OSError."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(_Connection, path.removeprefix("unix://"))
        return cls(connection)

    @property
    def closed(self) -> bool:
        """Whether every further call will raise ConnectionClosed."""
        return self._connection.closed

    def close(self) -> None:
        """Close the connection; pending calls raise ConnectionClosed. May be repeated."""
        self._connection.close()

    async def call(
        self,
        service: str,
        method: str,
        request: Message,
        response_type: type[_Response],
        timeout_s: float | None = None,
    ) -> _Response:
        """Call `method` of `service` (its full name) and return its response.

        Raises RemoteError for an error status or an unreadable response, ConnectionClosed, MessageTooLarge,
        and TimeoutError after `timeout_s`, which is sent to the server too. Cancelling the call, or its
        timeout, only stops the waiting: the server goes on, as ttrpc cannot cancel.
        """
        payload = request.SerializeToString()
        async with asyncio.timeout(timeout_s):
            answer = await self._connection.call(service, method, payload, timeout_s)
        try:
            return response_type.FromString(answer)
        except DecodeError as err:
            text = f"{service}/{method}: {len(answer)} bytes are no {response_type.DESCRIPTOR.full_name}"
            raise RemoteError(Code.INTERNAL, text) from err


class _Connection(asyncio.Protocol):
    """Feeds the core, and passes each answer to the call that waits for it."""

    __slots__ = ("_core", "_pending", "_transport", "closed")

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._core = ClientConnection()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self.closed = False

    async def call(self, service: str, method: str, payload: bytes, timeout_s: float | None) -> bytes:
        if self.closed:
            raise ConnectionClosed(f"{service}/{method}: connection is closed")
        timeout_ns = None if timeout_s is None else int(timeout_s * 1e9)
        stream_id = self._core.send_request(service, method, payload, timeout_ns)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[stream_id] = answer
        self._transport.write(self._core.data_to_send())
        try:
            return await answer
        finally:
            self._pending.pop(stream_id, None)
            self._core.forget(stream_id)

    def close(self) -> None:
        self._transport.close()
        self._fail_pending("connection was closed")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for event in self._core.receive_data(data):
            match event:
                case ResponseReceived():
                    self._settle(event.stream_id, event.payload)
                case CallFailed():
                    self._settle(event.stream_id, RemoteError(event.code, event.message))
                case FrameIgnored():
                    _log.debug("ignored a frame on stream %d: %s", event.stream_id, event.reason)

    def eof_received(self) -> None:
        try:
            self._core.receive_eof()
        except ProtocolError as err:
            _log.warning("%s", err)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail_pending(f"connection was lost: {exc}" if exc else "connection was closed by the peer")

    def _settle(self, stream_id: int, result: bytes | RemoteError) -> None:
        answer = self._pending.pop(stream_id)
        if answer.done():  # the call was cancelled and has not yet run
            return
        if isinstance(result, RemoteError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def _fail_pending(self, reason: str) -> None:
        self.closed = True
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ConnectionClosed(reason))
        self._pending.clear()
