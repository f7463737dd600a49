"""The console of a PID 1 that is a real init: private to the shim, and kept for the Start that fails.

An init closes the descriptors that it was started with, and reports what stops it only on /dev/console, which a pod
never sees. The last lines go into the error of a Start that failed, everything into the log at debug level, and the
lines into what `pouchrich logs` shows.
"""

import logging
import os
import re

from runtime.bundle_log import BundleLog
from runtime.init import screen
from shim.task.report.lines import LINE_BYTES, LineFilter
from shim.task.report.reading import ThrottledReader
from shim.task.stdio import console
from shim.task.stdio.endpoints import close_all

KEPT_BYTES = 4096
MOST_BYTES = 4 * KEPT_BYTES
"""Raw bytes kept before they are rendered as a terminal shows them, which costs time. A good boot prints fewer."""
SHOWN_LINES = 8
BURST, LINES_PER_S = 400, 20.0
"""Limits on the logged lines: at most BURST at once, LINES_PER_S on average. A boot prints some hundred."""
_WAITS = re.compile(rb"\[[ *]{3,8}\]|\x1b\[[0-9;]*m\*")
"""systemd's animation while it waits for a job, with and without colours."""

_log = logging.getLogger(__name__)


class BootConsole:
    """A terminal that the OCI runtime makes for init, and that only the shim reads.

    `lines` counts the lines that init printed, without its repeated reports of a job that it waits for. `log` gets
    the lines with their terminal control sequences. Where `private` is false there is no such terminal: init has the
    container's own streams or terminal.
    """

    def __init__(self, container_id: str, bundle: str, log: BundleLog | None = None, *, private: bool = True) -> None:
        self._container_id = container_id
        self._log = log
        self._filter = LineFilter(burst=BURST, per_s=LINES_PER_S, shown=_text)
        self._source = console.ConsoleSocket(bundle) if private else None
        self._fds: list[int] = []
        self._reading: ThrottledReader | None = None
        self._kept = b""
        self.lines = 0

    @property
    def socket_path(self) -> str:
        """The path for the OCI runtime's `--console-socket`; "" where init has no private console."""
        return self._source.path if self._source is not None else ""

    async def attach(self) -> None:
        """Receive the terminal from the OCI runtime, and begin to read. Raises RuntimeFailed."""
        if self._source is None:
            return
        master = await self._source.receive()
        self._source.close()
        self._fds = [master, console.open_pty_peer(master)]
        self._reading = ThrottledReader(master, self._read)

    def last_lines(self) -> str:
        """The last lines on the console and what they say failed, as one printable line; "" if there are none."""
        return " | ".join(screen.end(screen.lines(self._kept), SHOWN_LINES))

    def close(self) -> None:
        """Close the terminal. May be repeated."""
        if self._source is not None:
            self._source.close()
        if self._reading is not None:
            self._reading.close()
        close_all(self._fds)

    def _read(self) -> None:
        try:
            data = os.read(self._fds[0], KEPT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            if self._reading is not None:
                self._reading.close()
            return
        self._kept = kept(self._kept, data)
        if not _WAITS.search(data):
            self.lines += data.count(b"\n")
            if self._log is not None and (lines := self._filter.feed(data)):
                self._log.write("console", "", lines)
        _log.debug("container %s: console: %r", self._container_id, data)


def _text(line: bytes) -> str:
    return line[:LINE_BYTES].decode(errors="replace").rstrip("\r")


def kept(before: bytes, data: bytes) -> bytes:
    """What to keep of `before` followed by `data`: at most MOST_BYTES, which still render to the same last lines.

    Beyond that the bytes are replaced by their rendered lines, so that an animation does not push out earlier lines.
    """
    both = before + data
    if len(both) < MOST_BYTES:
        return both
    shown = "\n".join(screen.lines(both)).encode()[-KEPT_BYTES:]
    # Keep a final line end: without one, the next bytes continue or overwrite the last line.
    return shown + (both[-1:] if both.endswith((b"\n", b"\r")) else b"")
