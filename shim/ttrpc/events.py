"""The events of a connection.

The caller acts on RequestReceived, ResponseReceived and CallFailed. The others are for the log: the connection
has already handled them.
"""

from typing import NamedTuple


class RequestReceived(NamedTuple):
    """A unary call to be answered, once, on `stream_id`.

    `timeout_ns` is the time that remained when the client sent it, below 0 if it was already over; None for no
    deadline. A request's metadata is ignored.
    """

    stream_id: int
    service: str
    method: str
    payload: bytes
    timeout_ns: int | None


class StreamRefused(NamedTuple):
    """The connection itself has sent an error on `stream_id`."""

    stream_id: int
    code: int
    reason: str


class ResponseReceived(NamedTuple):
    """The call on `stream_id` succeeded."""

    stream_id: int
    payload: bytes


class CallFailed(NamedTuple):
    """The call on `stream_id` failed: the peer said so, or its answer cannot be read."""

    stream_id: int
    code: int
    message: str


class FrameIgnored(NamedTuple):
    """A frame for a call that nobody waits for, or of a kind without meaning here."""

    stream_id: int
    reason: str
