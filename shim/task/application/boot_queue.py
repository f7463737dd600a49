"""The node's queue of boots: about a configured number of inits boot at once (`runtime.init.boot_tickets`).

A boot needs CPU time: of twenty boots at once on two CPUs, each takes as long as all twenty together. A boot that no
longer uses CPU time, because it is finished or hangs, makes room (`leave`).
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
    """How many boots run at once where the configuration does not say: two for each CPU that this process may use."""
    return PER_CPU * len(os.sched_getaffinity(0))


class BootQueue:
    """One container's place. `subject`, `tenant` as for `Ticket`; `at_once` None: the default.

    If the queue's files cannot be made, for example on a full /run, nobody waits.
    """

    def __init__(
        self, subject: tuple[str, str], at_once: int | None, *, tenant: str = "", root: str = paths.BOOTS
    ) -> None:
        self._subject = subject
        self._tenant = tenant
        self._at_once = at_once or default_at_once()
        self._root = root
        self._ticket: Ticket | None = None

    async def wait_for_turn(self, over: Callable[[float], Awaitable[bool]]) -> bool:
        """Wait for this container's turn, and return True; False once `over` has returned true.

        `over(seconds)` waits that long, or returns true earlier to give up. A wait that was given up or cancelled
        leaves no place behind.
        """
        try:
            self._ticket = ticket = Ticket(self._subject, self._tenant, root=self._root)
            while not ticket.may_boot(self._at_once):
                # The further behind in the queue, the rarer the looks: each costs more and finds less.
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
        """Make room for the next boot. May be repeated."""
        if self._ticket is not None:
            self._ticket.close()
            self._ticket = None
