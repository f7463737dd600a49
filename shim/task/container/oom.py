"""OOM kills in a container, as events on their way to containerd."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from runtime.cgroup import Cgroup, oom

TOLD_S = 1.0


class OOMReports:
    """Calls `report` for each growth of the cgroup's count of OOM kills, from the event loop, until closed.

    What `report` returns is done once containerd has been told. Where there is no cgroup nothing is reported.
    """

    def __init__(self, cgroup: Cgroup | None, report: Callable[[], Awaitable[None]]) -> None:
        self._report = report
        self._watch = oom.watch(cgroup) if cgroup is not None else None
        self._last: Awaitable[None] | None = None
        if self._watch is not None:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self.drain)

    @property
    def seen(self) -> bool:
        """Whether there was one."""
        return self._last is not None

    def drain(self) -> None:
        """Report what has happened by now; the last look is taken before the exit is reported."""
        if self._watch is not None and self._watch.drain():
            self._last = self._report()

    async def told(self) -> None:
        """Return once containerd knows, or TOLD_S later: who is told of the exit first says that it was an error.

        The exit is the answer to a Wait, and passes events by (containerd, internal/cri/server/events.go).
        """
        if self._last is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(TOLD_S):
                    await asyncio.shield(asyncio.ensure_future(self._last))

    def close(self) -> None:
        """Stop watching. May be repeated."""
        watch, self._watch = self._watch, None
        if watch is not None:
            asyncio.get_running_loop().remove_reader(watch.fileno())
            watch.close()
