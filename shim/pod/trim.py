"""Returns memory and closes descriptors when requests stop (runtime.linux.heap; runtime.cgroup.kept).

A timer runs only between the last answer and the quiet after it, so an idle pod causes no wake-ups. A pod server with
constant requests, such as probes, does this once a minute: each time costs some milliseconds, and pages that are then
copied again.
"""

import asyncio
from collections.abc import Callable

from runtime.linux import heap

QUIET_S = 1.0
AGAIN_S = 60.0


class Trim:
    """Call `answered` for every answer. After the last one this returns memory, and calls `rest` to do so too."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rest: Callable[[], None]) -> None:
        self._loop = loop
        self._rest = rest
        self._answered = 0.0
        self._gave = -AGAIN_S
        self._timer: asyncio.TimerHandle | None = None

    def answered(self) -> None:
        """A request has been answered."""
        self._answered = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(QUIET_S, self._look)

    def _look(self) -> None:
        due = max(self._answered + QUIET_S, self._gave + AGAIN_S)
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
            return
        self._rest()
        if heap.is_shared() and heap.give_back() is None:  # a thread is at work
            self._timer = self._loop.call_later(QUIET_S, self._look)
            return
        self._gave = self._loop.time()
        self._timer = None
