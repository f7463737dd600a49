"""The pod server's log: logfmt lines into the bundle's `log` FIFO, which containerd copies to its own log.

The FIFO is opened for reading too, so that writing never fails with EPIPE while containerd is away. It is non-blocking,
so that a containerd that does not read never blocks the pod server: a line that does not fit is dropped. File
descriptor 2 is the FIFO as well, for messages of the interpreter itself.
"""

import faulthandler
import logging
import os
import signal
import time

from runtime.errors import text_of
from shim.task.report import log_fields

_LEVELS = {"WARNING": "warning", "CRITICAL": "fatal"}


class FifoHandler(logging.Handler):
    """Write each record as one line to a descriptor, or drop it. Never blocks, never raises."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._torn = False  # only a part of the last line fitted

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = format_record(record).encode(errors="replace")
            if self._torn:
                line = b"\n" + line
            self._torn = os.write(self._fd, line) < len(line)
        except BlockingIOError:
            pass
        except Exception:
            self.handleError(record)


def format_record(record: logging.LogRecord) -> str:
    """One logfmt line, with separate fields for the container and its pod.

    A traceback is part of the message, with its newlines escaped.
    """
    message = _message(record)
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
    level = _LEVELS.get(record.levelname, record.levelname.lower())
    fields = "".join(f" {key}={_quote(value)}" for key, value in log_fields.fields_for(record.msg, record.args).items())
    return f'time="{stamp}" level={level} msg={_quote(message)} runtime=io.containerd.pouchrich.v2{fields}\n'


def _message(record: logging.LogRecord) -> str:
    """The message, with an OSError described in words."""
    if isinstance(record.args, tuple) and any(isinstance(one, OSError) for one in record.args):
        return str(record.msg) % tuple(text_of(one) if isinstance(one, OSError) else one for one in record.args)
    return record.getMessage()


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    if not escaped.isprintable():  # text from a container must not control a terminal
        escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in escaped)
    return f'"{escaped}"'


def open_fifo(path: str, *, debug: bool) -> None:
    """Make the FIFO `path` this process's log and standard error; if it does not exist, standard error is unchanged.

    SIGUSR1 then writes the stack of every thread there.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        fd = 2
    else:
        os.dup2(fd, 2, inheritable=False)
    root = logging.getLogger()
    root.addHandler(FifoHandler(fd))
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.raiseExceptions = False
    faulthandler.enable(file=2)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
