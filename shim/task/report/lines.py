"""Splits a container's output into lines, bounded in length and rate, for a log."""

import time
from collections.abc import Callable

LINE_BYTES = 512
BURST = 50
LINES_PER_S = 5.0


def printable(line: bytes) -> str:
    """The first LINE_BYTES of a line for the log. Bytes that are no text or control a terminal become escapes."""
    cut = line[:LINE_BYTES].decode("utf-8", "backslashreplace").rstrip("\r")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)


class LineFilter:
    """Makes lines from chunks of bytes; at most `burst` lines at once and `per_s` on average pass. No I/O.

    `shown` turns the bytes of a passed line into text.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        *,
        burst: float = BURST,
        per_s: float = LINES_PER_S,
        shown: Callable[[bytes], str] = printable,
    ) -> None:
        self._now = now
        self._burst = burst
        self._per_s = per_s
        self._shown = shown
        self._rest = b""
        self._skipping = False
        self._credit = burst
        self._at = now()
        self._dropped = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines to log, now that `data` has arrived; a line longer than LINE_BYTES is cut."""
        passed: list[str] = []
        if not self._skipping and self._has_no_credit() and (dropped := data.count(b"\n")):
            self._dropped += dropped
            self._rest, data = b"", data[data.rindex(b"\n") + 1 :]
        *lines, rest = data.split(b"\n")
        for line in lines:
            if not self._skipping:
                self._offer(self._rest + line, passed)
            self._rest, self._skipping = b"", False
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > LINE_BYTES:
                self._offer(self._rest, passed)
                self._rest, self._skipping = b"", True
        return passed

    def _has_no_credit(self) -> bool:
        now = self._now()
        self._credit = min(self._burst, self._credit + (now - self._at) * self._per_s)
        self._at = now
        return self._credit < 1

    def _offer(self, line: bytes, passed: list[str]) -> None:
        if self._has_no_credit():
            self._dropped += 1
            return
        if self._dropped:
            passed.append(f"({self._dropped} lines left out)")
            self._dropped = 0
        self._credit -= 1
        passed.append(self._shown(line))
