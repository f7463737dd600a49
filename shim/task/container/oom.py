"""Reports OOM kills in a container to containerd."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from runtime.cgroup import Cgroup, oom

DELIVERY_TIMEOUT_S = 1.0
RECENT_S = 60.0
"""How long before a container's end an OOM kill in it may count as its reason: an init's shutdown lies between."""


class OOMReports:
    """Calls `report` in the event loop whenever the cgroup's count of OOM kills has grown, until closed.

    The awaitable that `report` returns is done once containerd has the event. Without a cgroup nothing is reported.
    """

    def __init__(self, cgroup: Cgroup | None, report: Callable[[], Awaitable[None]]) -> None:
        self._report = report
        self._watch = oom.watch(cgroup) if cgroup is not None else None
        self._last: Awaitable[None] | None = None
        self._last_at = 0.0
        if self._watch is not None:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self.drain)

    @property
    def is_recent(self) -> bool:
        """Whether an OOM kill has been reported within the last RECENT_S seconds."""
        return self._last is not None and time.monotonic() < self._last_at + RECENT_S

    def drain(self) -> None:
        """Report the OOM kills up to now. The last call comes before the exit is reported."""
        if self._watch is not None and self._watch.drain():
            self._last, self._last_at = self._report(), time.monotonic()

    async def wait_delivered(self) -> None:
        """Return once containerd has the last OOM event, or after DELIVERY_TIMEOUT_S seconds.

        The exit also reaches containerd as the answer to Wait, which can overtake events. A client that gets the exit
        before the OOM event reports the reason Error, not OOMKilled (containerd, internal/cri/server/events.go).
        """
        if self._last is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(DELIVERY_TIMEOUT_S):
                    await asyncio.shield(asyncio.ensure_future(self._last))

    def close(self) -> None:
        """Stop watching. May be repeated."""
        watch, self._watch = self._watch, None
        if watch is not None:
            asyncio.get_running_loop().remove_reader(watch.fileno())
            watch.close()
