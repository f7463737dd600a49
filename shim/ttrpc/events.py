"""What a connection tells its user.

The user acts on RequestReceived, ResponseReceived and CallFailed. The others are for the log: the connection
has already done what there is to do about them.
"""

from dataclasses import dataclass

Metadata = tuple[tuple[str, str], ...]  # keys are lower case; one that comes twice has two values


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A unary call to be answered, once, on `stream_id`.

    `timeout_ns` is what remained when the client sent it, below 0 for "already late"; None for no deadline.
    """

    stream_id: int
    service: str
    method: str
    payload: bytes
    timeout_ns: int | None
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class StreamRefused:
    """An error of the connection's own was sent on `stream_id`."""

    stream_id: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """The call on `stream_id` succeeded."""

    stream_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The call on `stream_id` failed: by the peer's word, or because its answer cannot be read."""

    stream_id: int
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class FrameIgnored:
    """A frame for a call that nobody waits for, or of a kind that has no meaning here."""

    stream_id: int
    reason: str
