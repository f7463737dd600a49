"""The table from our errors to ttrpc status codes (gRPC numbering; containerd, errdefs/grpc.go)."""

from runtime import errors
from shim.ttrpc.errors import Code

CODES: dict[type[BaseException], Code] = {
    errors.InvalidArgument: Code.INVALID_ARGUMENT,
    errors.NotFound: Code.NOT_FOUND,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.FailedPrecondition: Code.FAILED_PRECONDITION,
    errors.Unsupported: Code.UNIMPLEMENTED,
    errors.Unavailable: Code.UNAVAILABLE,
    errors.DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    errors.RuntimeFailed: Code.UNKNOWN,  # as containerd's own shim answers; callers look at the text
    errors.HookFailed: Code.UNKNOWN,
    errors.PouchrichError: Code.UNKNOWN,  # of no subclass: the kernel or a helper refused a mount
}

# containerd strips this suffix from a message and adds it again; tools that show the bare message rely on it.
_TAILS = {
    Code.NOT_FOUND: ": not found",
    Code.ALREADY_EXISTS: ": already exists",
    Code.FAILED_PRECONDITION: ": failed precondition",
    Code.UNIMPLEMENTED: ": not implemented",
    Code.INVALID_ARGUMENT: ": invalid argument",
    Code.UNAVAILABLE: ": unavailable",
}


_LONGEST = 16384


def code_of(error: BaseException) -> Code | None:
    """The code of `error`'s nearest class in the table, or None for other errors: a bug, or an error of the kernel."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), None)


def _plain(text: str) -> str:
    """`text` without terminal control sequences, cut to a length that a log can take."""
    if not text.isprintable():
        lines = [line.strip() for line in text.strip().splitlines()]
        text = "; ".join("".join(c if c.isprintable() else _escaped(c) for c in line) for line in lines if line)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]


def status_of(error: BaseException) -> tuple[int, str] | None:
    """(code, message) for the wire, or None where the table does not have `error`'s class.

    An OSError of a handler becomes Unknown with its text. Its errno never becomes NotFound: containerd reads NotFound
    as "the task is gone" and tears down. Messages may contain a container's text, so they are made printable.
    """
    if isinstance(error, OSError):
        return Code.UNKNOWN, _plain(errors.text_of(error))
    code = code_of(error)
    if code is None:
        return None
    message = _plain(str(error))
    tail = _TAILS.get(code, "")
    return code, message if message.endswith(tail) else message + tail
