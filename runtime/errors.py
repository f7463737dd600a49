"""The categories of failure. They have no status codes: the one table that maps them to codes is in `shim.pod.status`.

    PouchrichError
    ├── InvalidArgument      a bad request field, annotation, configuration key or spec
    ├── NotFound             no such task or exec; a process already gone
    ├── AlreadyExists        an id is taken
    ├── FailedPrecondition   a move the lifecycle does not allow
    ├── Unsupported          a method or mode that is not offered
    ├── Unavailable          a peer cannot be reached, or this one is going away
    ├── DeadlineExceeded     a request's own time ran out
    ├── RuntimeFailed        crun or runc said no
    └── HookFailed           a hook exited non-zero or timed out

Messages are lower case without a full stop. Each layer prefixes its own words, so that the whole reads from the general
to the specific: `load spec: config.json: not valid JSON at line 3`.
"""


class PouchrichError(Exception):
    """The root of every error that is meant to reach a caller."""


class InvalidArgument(PouchrichError):
    """The input is wrong, and the message names the key, what was found and what is allowed."""


class NotFound(PouchrichError):
    """The task, exec or process is not there (any more). Callers read this as "already gone"."""


class AlreadyExists(PouchrichError):
    """The id is taken."""


class FailedPrecondition(PouchrichError):
    """The task is in a state that does not allow the request."""


class Unsupported(PouchrichError):
    """The method or mode is not offered."""


class Unavailable(PouchrichError):
    """A peer cannot be reached, or the server is shutting down."""


class DeadlineExceeded(PouchrichError):
    """The request's own time limit ran out."""


class RuntimeFailed(PouchrichError):
    """The OCI runtime refused; the message ends with the runtime's own last error."""


class HookFailed(PouchrichError):
    """A hook exited non-zero or ran out of time; the message names it and gives its last output."""


def text_of(error: BaseException) -> str:
    """An error in words. For an OSError: its subject and the kernel's reason, without Python's `[Errno 21]`."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return "".join(f"{name}: " for name in [" to ".join(names)] if name) + error.strerror
