"""How long the shim waits for a boot: as long as the boot makes progress, and never longer than a bound.

On a busy node a good boot takes long; a boot that hangs does nothing. Progress is a line on the console, or CPU time.
The container can fake both, but that gains it no more than the bound.
"""

import math
import time
from collections.abc import Callable

LOOK_S = 1.0
LEAST_SHARE = 0.01
"""The share of one CPU that counts as progress. A systemd that only animates a waiting job uses a fifth of that."""
IDLE_S = 3.0
"""A boot that has made no progress for this long uses no CPU: it hangs, or waits for something else."""


class ProgressDeadline:
    """Judges one boot, from now on. `sources` are the keys of the two times, and where those were set.

    `idle_s` is how long the boot may be without progress, `most_s` how long it may take in all. `spent` returns the CPU
    seconds used so far, or None where that is not known; `said` returns how many lines the console has had so far.
    """

    def __init__(
        self,
        idle_s: float,
        most_s: float,
        *,
        sources: tuple[str, str] = ("rich.start-timeout", "rich.start-timeout-max"),
        spent: Callable[[], float | None] = lambda: None,
        said: Callable[[], int] = lambda: 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle_s = idle_s
        self._idle_source, self._most_source = sources
        self._most_s = max(idle_s, most_s)
        self._spent = spent
        self._said = said
        self._now = now
        self._began = self._looked = self._moved = now()
        self._before = spent(), said()

    def wait_s(self) -> float:
        """How many seconds to wait before the next `check_progress`; 0 where the time is up."""
        at = self._now()
        left = min(self._moved + self._idle_s, self._began + self._most_s) - at
        return max(0.0, min(left, self._looked + LOOK_S - at if self._looked + LOOK_S > at else LOOK_S))

    def check_progress(self) -> None:
        """Note whether the boot has made progress."""
        at, (cpu_s, lines) = self._now(), (self._spent(), self._said())
        elapsed = at - self._looked
        if elapsed <= 0:
            return
        cpu_before_s, lines_before = self._before
        worked = 0.0 if cpu_s is None or cpu_before_s is None else cpu_s - cpu_before_s
        if lines > lines_before or worked >= LEAST_SHARE * elapsed:
            self._moved = at
        self._looked, self._before = at, (cpu_s, lines)

    @property
    def is_idle(self) -> bool:
        """Whether there has been no progress for a while."""
        return self._now() - self._moved >= IDLE_S

    def expiry_reason(self) -> str:
        """Why the time is up, or "" where it is not."""
        at = self._now()
        if at - self._began >= self._most_s and not math.isclose(self._most_s, self._idle_s):
            return f"not within start-timeout-max, {self._most_s:g} s ({self._most_source})"
        if at - self._moved >= self._idle_s or at - self._began >= self._most_s:
            return f"no progress within start-timeout, {self._idle_s:g} s ({self._idle_source})"
        return ""
