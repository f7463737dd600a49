"""An event loop with a time of its own: what waits for a time gets it at once, and no test sleeps.

For coroutines that wait for each other and for times alone: while nothing is to be done now, the clock goes on to the
next timer, whatever another thread or process may still be about to do.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

LIMIT_S = 100_000.0


class _Selector(selectors.DefaultSelector):
    """Does not wait for the next timer, but passes the time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0 if timeout else timeout)
        if not events and timeout:
            self.now += timeout
        return events


class ClockLoop(asyncio.SelectorEventLoop):
    """Its `time()` begins at 0 and goes on in jumps."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return round(self._clock.now, 6)


def in_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the coroutine function `test` as a test in a ClockLoop; one that waits for ever ends by its limit."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=ClockLoop) as runner:
            runner.run(limited())

    return run


async def settled() -> None:
    """Let everything run that can run now, without a time passing."""
    for _ in range(20):
        await asyncio.sleep(0)


def now() -> float:
    """The running loop's time, in seconds since the test began."""
    return asyncio.get_running_loop().time()
