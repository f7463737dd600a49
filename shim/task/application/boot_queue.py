"""Waiting for one's turn to boot: as many inits boot at once as the node has been given, in the order of arrival.

A boot is work for processors, and twenty at once on two of them take each as long as all together. A boot that does
not work any more (`leave`) makes room, whether it is through or hangs.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from runtime import paths
from runtime.init.boot_tickets import Ticket

PER_CPU = 2
LOOK_S = 0.02
LONGEST_LOOK_S = 0.5

_log = logging.getLogger(__name__)


def default_at_once() -> int:
    """How many boots at once where the configuration does not say: two for each processor that may be used."""
    return PER_CPU * len(os.sched_getaffinity(0))


class BootQueue:
    """One container's place. `subject` is containerd's namespace and the container's id; `at_once` None: the default.

    A queue that cannot be had (a full /run) holds nobody up.
    """

    def __init__(self, subject: tuple[str, str], at_once: int | None, *, root: str = paths.BOOTS) -> None:
        self._subject = subject
        self._at_once = at_once or default_at_once()
        self._root = root
        self._ticket: Ticket | None = None

    async def turn(self, over: Callable[[float], Awaitable[bool]]) -> bool:
        """Wait for it. `over(seconds)` waits as long, or less and returns true: the wait ends then, with false.

        A cancelled wait, like one that ended so, leaves no place behind.
        """
        try:
            self._ticket = ticket = Ticket(self._subject, root=self._root)
            while not ticket.may_boot(self._at_once):
                # The further behind, the less often: one look costs more, and changes less.
                behind = max(1, ticket.ahead() - self._at_once + 1)
                if await over(min(LONGEST_LOOK_S, LOOK_S * behind)):
                    self.leave()
                    return False
        except OSError as err:
            _log.warning("container %s: boots without waiting for its turn: %s", self._subject[1], err)
            self.leave()
        except asyncio.CancelledError:
            self.leave()
            raise
        return True

    def leave(self) -> None:
        """Make room for the next. May be repeated."""
        if self._ticket is not None:
            self._ticket.close()
            self._ticket = None
