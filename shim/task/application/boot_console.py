"""The console of a PID 1 that is a real init: private to the shim, and kept for the one case in which it matters.

An init drops the descriptors it was started with and says what stops it only on /dev/console, which a pod would never
see. The last lines go into the error of a Start that failed, all of it into the log at debug level, and its lines into
what `pouchrich logs` shows.
"""

import logging
import os
import re

from runtime.bundle_log import BundleLog
from runtime.init import screen
from shim.task.report.lines import LINE_BYTES, LineFilter
from shim.task.report.reading import Reading
from shim.task.stdio import console
from shim.task.stdio.terminal import RuntimeConsole

KEPT_BYTES = 4096
MOST_BYTES = 4 * KEPT_BYTES
"""What is kept before it is read as a person would, which costs time: a boot that goes well never gets there."""
SHOWN_LINES = 8
BURST, LINES_PER_S = 400, 20.0
"""Of the lines that are kept: a boot has some hundred, and who writes more than these has no more to say."""
_WAITS = re.compile(rb"\[[ *]{3,8}\]|\x1b\[[0-9;]*m\*")
"""systemd's animation of a job, with colours or without."""

_log = logging.getLogger(__name__)


class BootConsole:
    """A terminal that the OCI runtime makes for init, and that nobody but the shim reads.

    `lines` counts what it said, without the job that it waits for, which it says again and again. `log` gets the
    lines themselves, with all that steers a terminal still in them. Where it is not `private` there is none: init has
    the container's own streams or terminal.
    """

    def __init__(self, container_id: str, bundle: str, log: BundleLog | None = None, *, private: bool = True) -> None:
        self._container_id = container_id
        self._log = log
        self._filter = LineFilter(burst=BURST, per_s=LINES_PER_S, shown=_text)
        self._source = RuntimeConsole(bundle) if private else None
        self._fds: list[int] = []
        self._reading: Reading | None = None
        self._kept = b""
        self.lines = 0

    @property
    def socket_path(self) -> str:
        """For the runtime's `--console-socket`; "" where there is no console of its own."""
        return self._source.path if self._source is not None else ""

    async def attach(self) -> None:
        """Take the terminal from the runtime, and begin to read. Raises RuntimeFailed."""
        if self._source is None:
            return
        master = await self._source.receive()
        self._source.close()
        self._fds = [master, console.far_end(master)]
        self._reading = Reading(master, self._read)

    def last_lines(self) -> str:
        """What the console shows at the end, as printable text of one line, or "": the last lines and what failed."""
        return " | ".join(screen.end(screen.lines(self._kept), SHOWN_LINES))

    def close(self) -> None:
        """Hang up. May be repeated."""
        if self._source is not None:
            self._source.close()
        if self._reading is not None:
            self._reading.close()
        while self._fds:
            os.close(self._fds.pop())

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
    """What to keep of `before` and then `data`: at most MOST_BYTES, from which the same is read in the end.

    More than that is replaced by what it shows, so an animation does not push out what was said before it.
    """
    both = before + data
    if len(both) < MOST_BYTES:
        return both
    shown = "\n".join(screen.lines(both)).encode()[-KEPT_BYTES:]
    # An unfinished line may go on, or be drawn over.
    return shown + (both[-1:] if both.endswith((b"\n", b"\r")) else b"")
