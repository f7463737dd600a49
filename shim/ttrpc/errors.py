"""What can go wrong between two ttrpc peers, and the status codes that ttrpc itself answers with.

TtrpcError
├── ProtocolError      the rules of the connection were broken: close it
├── MessageTooLarge    a request does not fit in a frame; nothing was sent
├── ConnectionClosed   there is no peer (any more)
└── RemoteError        the peer answered with a status
"""

import enum


class Code(enum.IntEnum):
    """Codes in gRPC's numbering (google.rpc.Code), with what this package itself sends them for.

    The errors of handlers may have these codes too: a server's `status_of` maps them.
    """

    CANCELLED = 1  # the handler was cancelled
    UNKNOWN = 2  # a bug in a handler
    INVALID_ARGUMENT = 3  # a frame that breaks the rules, on its own stream
    DEADLINE_EXCEEDED = 4  # the request's timeout ran out, here
    NOT_FOUND = 5  # an error of a handler
    ALREADY_EXISTS = 6  # an error of a handler
    RESOURCE_EXHAUSTED = 8  # a frame over the size limit, in either direction
    FAILED_PRECONDITION = 9  # an error of a handler
    UNIMPLEMENTED = 12  # no such service or method; streaming calls
    INTERNAL = 13  # a payload that does not decode as the method's message
    UNAVAILABLE = 14  # the server is shutting down


class TtrpcError(Exception):
    """The base class of the errors that this package raises."""


class ProtocolError(TtrpcError):
    """The byte stream can no longer be trusted, or the caller used the connection against its rules."""


class MessageTooLarge(TtrpcError):
    """A request does not fit in a frame. Nothing was sent, and the connection stays usable."""


class ConnectionClosed(TtrpcError):
    """The connection is gone; whether the peer acted on the request is not known."""


class RemoteError(TtrpcError):
    """The peer answered with status `code` (gRPC numbering) and `message`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"
