"""The two ends of a ttrpc connection, without I/O: bytes in, events and bytes out.

Feed incoming bytes to `receive_data`, then write what `data_to_send` returns, always in this order: a server
answers frames that break the rules by itself, on their own stream, and stays usable. The rules are those of Go's
ttrpc 1.2; the error texts are ours. Arbitrary bytes give events or ProtocolError, no other exception.
"""

from collections.abc import Iterator

from shim.ttrpc import envelope, frame
from shim.ttrpc.errors import Code, MessageTooLarge, ProtocolError
from shim.ttrpc.events import (
    CallFailed,
    FrameIgnored,
    RequestReceived,
    ResponseReceived,
    StreamRefused,
)
from shim.ttrpc.frame import Frame, FrameBuffer, Oversized

ServerEvent = RequestReceived | StreamRefused
ClientEvent = ResponseReceived | CallFailed | FrameIgnored

_MAX_STREAM_ID = 0xFFFFFFFF


class _Connection:
    """What both ends share: the buffer of each direction, and the end of the stream."""

    __slots__ = ("_incoming", "_outgoing")

    def __init__(self) -> None:
        self._incoming = FrameBuffer()
        self._outgoing: list[bytes] = []

    def data_to_send(self) -> bytes:
        """Return the bytes to write now; each byte is returned once."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def receive_eof(self) -> None:
        """The peer sends no more. Raises ProtocolError where that cuts off a frame."""
        if not self._incoming.at_boundary:
            raise ProtocolError("connection ended in the middle of a frame")

    def _frames(self, data: bytes) -> Iterator[Frame | Oversized]:
        self._incoming.feed(data)
        while (item := self._incoming.next_frame()) is not None:
            yield item

    def _send(self, stream_id: int, kind: int, data: bytes) -> None:
        self._outgoing.append(frame.encode(stream_id, kind, data))


class ServerConnection(_Connection):
    """The serving end. Each RequestReceived is answered once, in any order, with a response or an error."""

    __slots__ = ("_last_id", "_open")

    def __init__(self) -> None:
        super().__init__()
        self._last_id = 0
        self._open: set[int] = set()

    def receive_data(self, data: bytes) -> list[ServerEvent]:
        """Take bytes from the client, split anywhere, and return the events that they complete."""
        events = (self._on_frame(item) for item in self._frames(data))
        return [event for event in events if event is not None]

    def send_response(self, stream_id: int, payload: bytes) -> StreamRefused | None:
        """Answer with success. If `payload` does not fit in a frame, answer with an error, and return it.

        Raises ProtocolError where `stream_id` awaits no answer.
        """
        self._close(stream_id)
        data = envelope.encode_response(payload)
        if len(data) > frame.MAX_DATA:
            return self._refuse(
                stream_id,
                Code.RESOURCE_EXHAUSTED,
                f"response of {len(data)} bytes is over the limit of {frame.MAX_DATA}",
            )
        self._send(stream_id, frame.RESPONSE, data)
        return None

    def send_error(self, stream_id: int, code: int, message: str) -> None:
        """Answer with a status of `code`, not 0. Raises ProtocolError where `stream_id` awaits no answer."""
        self._close(stream_id)
        self._send(stream_id, frame.RESPONSE, envelope.encode_error(code, message))

    def _on_frame(self, item: Frame | Oversized) -> ServerEvent | None:
        """Check a frame and take it. The checks have the order of Go's server."""
        stream_id = item.stream_id
        if isinstance(item, Oversized):
            return self._refuse(
                stream_id,
                Code.RESOURCE_EXHAUSTED,
                f"message of {item.length} bytes is over the limit of {frame.MAX_DATA}",
            )
        if stream_id % 2 == 0:
            return self._refuse(stream_id, Code.INVALID_ARGUMENT, f"stream id {stream_id} is not odd")
        if item.kind == frame.REQUEST:
            return self._on_request(item)
        if item.kind == frame.DATA:
            return self._refuse(stream_id, Code.INVALID_ARGUMENT, f"stream {stream_id} takes no data")
        return None  # a kind of a later protocol version

    def _on_request(self, item: Frame) -> ServerEvent:
        stream_id = item.stream_id
        if stream_id <= self._last_id:
            reason = f"stream id {stream_id} is not above the last, {self._last_id}"
            return self._refuse(stream_id, Code.INVALID_ARGUMENT, reason)
        self._last_id = stream_id
        try:
            request = envelope.decode_request(stream_id, item.data)
        except envelope.MalformedEnvelope as err:
            return self._refuse(stream_id, Code.INVALID_ARGUMENT, str(err))
        if item.flags & (frame.REMOTE_CLOSED | frame.REMOTE_OPEN):
            return self._refuse(stream_id, Code.UNIMPLEMENTED, f"streaming call of {request.service}/{request.method}")
        self._open.add(stream_id)
        return request

    def _refuse(self, stream_id: int, code: Code, reason: str) -> StreamRefused:
        self._send(stream_id, frame.RESPONSE, envelope.encode_error(code, reason))
        return StreamRefused(stream_id, code, reason)

    def _close(self, stream_id: int) -> None:
        if stream_id not in self._open:
            raise ProtocolError(f"stream {stream_id} awaits no answer")
        self._open.remove(stream_id)


class ClientConnection(_Connection):
    """The calling end. Every call ends in one ResponseReceived or CallFailed, unless it is forgotten."""

    __slots__ = ("_next_id", "_pending")

    def __init__(self) -> None:
        super().__init__()
        self._next_id = 1
        self._pending: set[int] = set()

    def send_request(self, service: str, method: str, payload: bytes, timeout_ns: int | None = None) -> int:
        """Call `method` of `service` (its full name) and return the stream id of the call.

        `timeout_ns` is the remaining time, None for no deadline. Raises MessageTooLarge, and ProtocolError once
        the ids are used up.
        """
        data = envelope.encode_request(service, method, payload, timeout_ns)
        if len(data) > frame.MAX_DATA:
            raise MessageTooLarge(f"request of {len(data)} bytes is over the limit of {frame.MAX_DATA}")
        stream_id = self._next_id
        if stream_id > _MAX_STREAM_ID:
            raise ProtocolError("stream ids of this connection are used up")
        self._next_id += 2
        self._pending.add(stream_id)
        self._send(stream_id, frame.REQUEST, data)
        return stream_id

    def forget(self, stream_id: int) -> None:
        """Stop waiting for a call; the server is not told, as ttrpc has no frame for it."""
        self._pending.discard(stream_id)

    def receive_data(self, data: bytes) -> list[ClientEvent]:
        """Take bytes from the server, split anywhere, and return the events that they complete."""
        return [self._on_frame(item) for item in self._frames(data)]

    def _on_frame(self, item: Frame | Oversized) -> ClientEvent:
        stream_id = item.stream_id
        if stream_id not in self._pending:
            return FrameIgnored(stream_id, "no call waits on the stream")
        if isinstance(item, Oversized):
            self._pending.remove(stream_id)
            return CallFailed(
                stream_id,
                Code.RESOURCE_EXHAUSTED,
                f"response of {item.length} bytes is over the limit of {frame.MAX_DATA}",
            )
        if item.kind != frame.RESPONSE:
            return FrameIgnored(stream_id, f"frame of kind {item.kind} for a unary call")
        self._pending.remove(stream_id)
        try:
            return envelope.decode_response(stream_id, item.data)
        except envelope.MalformedEnvelope as err:
            return CallFailed(stream_id, Code.INTERNAL, str(err))
