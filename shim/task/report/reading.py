"""Reads a descriptor that a container writes to, for no more than a share of the event loop's CPU time.

Printing costs a container little, while the pod server may have to look at each byte. Above the share the container has
to wait for its reader, as at a slow terminal, so that the pod's other requests need not wait.
"""

import asyncio
import time
from collections.abc import Callable

SHARE = 0.1
"""The share of one CPU. Reading a boot's output takes a thousandth of a CPU."""
BURST_S = 0.2
"""The CPU time, in seconds, that may be used at once."""


class ThrottledReader:
    """Calls `read`, which reads `fd` once, whenever `fd` is readable, until `close`.

    `read` may call `close`. `spent` is a clock of this thread's CPU time, in seconds.
    """

    def __init__(
        self,
        fd: int,
        read: Callable[[], object],
        *,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._fd = fd
        self._read = read
        self._loop = asyncio.get_running_loop()
        self._spent = spent
        self._credit_s = BURST_S
        self._at = self._loop.time()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop.add_reader(fd, self._ready)

    def close(self) -> None:
        """Stop reading. The caller keeps the descriptor. May be repeated."""
        if self._pause is not None:
            self._pause.cancel()
        if not self._closed:
            self._loop.remove_reader(self._fd)
        self._closed = True

    def _ready(self) -> None:
        began = self._spent()
        self._read()
        now = self._loop.time()
        self._credit_s = min(BURST_S, self._credit_s + (now - self._at) * SHARE) - (self._spent() - began)
        self._at = now
        if self._credit_s < 0 and not self._closed:
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(-self._credit_s / SHARE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._fd, self._ready)
