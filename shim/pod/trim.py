"""Giving memory and descriptors back when a pod has gone quiet (runtime.linux.heap; runtime.cgroup.kept).

A timer runs only between the last answer and the quiet after it, so a pod at rest causes no wake-ups. A pod that is
probed all the time gives back once a minute: each time costs it some milliseconds, and the copies that it makes anew.
"""

import asyncio
from collections.abc import Callable

from runtime.linux import heap

QUIET_S = 1.0
AGAIN_S = 60.0


class Trim:
    """Told of every answer by `answered`, it gives memory back after the last, and calls `rest`, which does so, too."""

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
