"""OOM kills in a container, as events on their way to containerd."""

import asyncio
from collections.abc import Callable

from runtime.cgroup import Cgroup, oom


class OOMReports:
    """Calls `report` for each growth of the cgroup's count of OOM kills, from the event loop, until closed.

    Where there is no cgroup nothing is reported.
    """

    def __init__(self, cgroup: Cgroup | None, report: Callable[[], None]) -> None:
        self._report = report
        self._watch = oom.watch(cgroup) if cgroup is not None else None
        self.seen = False
        if self._watch is not None:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self.drain)

    def drain(self) -> None:
        """Report what has happened by now; the last look is taken before the exit is reported."""
        if self._watch is not None and self._watch.drain():
            self.seen = True
            self._report()

    def close(self) -> None:
        """Stop watching. May be repeated."""
        watch, self._watch = self._watch, None
        if watch is not None:
            asyncio.get_running_loop().remove_reader(watch.fileno())
            watch.close()
