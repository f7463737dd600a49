"""The phases of an application under an init, and the table of allowed transitions.

The life begins when the OCI runtime has created the init, and ends with the init. In between the boot fails, or the
application runs.
"""

import asyncio
import enum
from collections.abc import Awaitable, Mapping
from contextlib import suppress

from runtime.errors import RuntimeFailed


class AppPhase(enum.Enum):
    """The phase of an application. The value is the word used in messages."""

    CREATED = "created"
    """Init waits to be started, or for its turn to boot."""

    BOOTING = "booting"
    """Init runs; the application does not run yet."""

    CALLED_OFF = "called off"
    """A client's signal came before the application ran: init is being killed."""

    FAILED = "failed"
    """The boot failed: init is being killed."""

    RUNNING = "running"
    """The application runs; where the image's command is the init itself, init runs."""

    STOPPING = "stopping"
    """A client's signal was passed on. The application is not restarted, unless the signal turns out to be no stop."""

    RESTARTING = "restarting"
    """The application failed, and init may start it again."""

    SHUTTING_DOWN = "shutting down"
    """The application has ended, and init is told to end."""

    ENDED = "ended"
    """Init has ended, and everything with it."""


ALLOWED: Mapping[AppPhase, frozenset[AppPhase]] = {
    AppPhase.CREATED: frozenset({AppPhase.BOOTING, AppPhase.CALLED_OFF, AppPhase.ENDED}),
    AppPhase.BOOTING: frozenset({AppPhase.RUNNING, AppPhase.CALLED_OFF, AppPhase.FAILED, AppPhase.ENDED}),
    AppPhase.CALLED_OFF: frozenset({AppPhase.ENDED}),
    AppPhase.FAILED: frozenset({AppPhase.ENDED}),
    AppPhase.RUNNING: frozenset(
        {AppPhase.STOPPING, AppPhase.RESTARTING, AppPhase.SHUTTING_DOWN, AppPhase.ENDED},
    ),
    AppPhase.STOPPING: frozenset({AppPhase.RUNNING, AppPhase.SHUTTING_DOWN, AppPhase.ENDED}),
    AppPhase.RESTARTING: frozenset(
        {AppPhase.RUNNING, AppPhase.STOPPING, AppPhase.SHUTTING_DOWN, AppPhase.ENDED},
    ),
    AppPhase.SHUTTING_DOWN: frozenset({AppPhase.ENDED}),
    AppPhase.ENDED: frozenset(),
}

_HAS_RUN = frozenset({AppPhase.RUNNING, AppPhase.STOPPING, AppPhase.RESTARTING, AppPhase.SHUTTING_DOWN})


class AppLife:
    """The phase of one application. `ended` is set when its init ends; `last` is the phase before that."""

    def __init__(self) -> None:
        self.phase = self.last = AppPhase.CREATED
        self.ended = asyncio.Event()
        self._left = asyncio.Event()

    def move(self, to: AppPhase) -> None:
        """Enter phase `to`. Raises RuntimeFailed where the table does not allow it."""
        if to not in ALLOWED[self.phase]:
            raise RuntimeFailed(f"the application is {self.phase.value}, and cannot be {to.value}")
        self.last, self.phase = self.phase, to
        self._left.set()
        self._left = asyncio.Event()
        if to is AppPhase.ENDED:
            self.ended.set()

    def is_in(self, *phases: AppPhase) -> bool:
        """Whether the application is in one of `phases`."""
        return self.phase in phases

    def leaving(self) -> Awaitable[object]:
        """An awaitable that is done once the application has left its present phase."""
        return self._left.wait()

    async def stays(self, for_s: float) -> bool:
        """Wait `for_s` seconds, or until the phase changes. Return whether it has stayed the same."""
        if for_s <= 0:
            return True
        here = self._left
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await here.wait()
        return not here.is_set()

    def end(self) -> None:
        """Init has ended; allowed in every phase. May be repeated."""
        if self.phase is not AppPhase.ENDED:
            self.move(AppPhase.ENDED)

    @property
    def is_called_off(self) -> bool:
        """Whether a signal ended the start; still true once init has ended because of that."""
        return AppPhase.CALLED_OFF in (self.phase, self.last)

    @property
    def has_run(self) -> bool:
        """Whether the application runs or has run; still true once init has ended."""
        return (self.last if self.phase is AppPhase.ENDED else self.phase) in _HAS_RUN
