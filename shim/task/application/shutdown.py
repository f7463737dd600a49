"""The end of an init: it is told to shut down once its application has ended. What does not go so is told of."""

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import suppress

from runtime.bundle_log import BundleLog
from shim.task.application.timeouts import Timeouts
from shim.task.report import measures

POWEROFF_AGAIN_S = 1.0
_KILLED = 128 + signal.SIGKILL

_log = logging.getLogger(__name__)


class Shutdown:
    """The shutdown of the init of one container, called `init`.

    What did not go as it should is told in the shim's log and in `log`; `unusual` is the last such text, or "". It does
    not have a PID 1 that was killed while the application ran: clients do that to containers that they remove by force.
    """

    def __init__(self, container_id: str, init: str, limits: Timeouts, log: BundleLog | None = None) -> None:
        self._container_id = container_id
        self._init = init
        self._limits = limits
        self._log = log
        self.unusual = ""

    async def power_off(
        self, tell: Callable[[], None], ended: asyncio.Event, *, stopping_for_s: float | None, again_s: float
    ) -> None:
        """Call `tell` at once and then every `again_s` seconds until `ended` is set, or the time for that is over.

        The caller then kills the init, which is counted, unless the node leaves it no time anyway. `stopping_for_s` as
        for `Timeouts.shutdown_s`.
        """
        within_s = self._limits.shutdown_s(stopping_for_s)
        clock = asyncio.get_running_loop().time
        end = clock() + within_s
        while not ended.is_set() and (left := end - clock()) > 0:
            tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, again_s)):
                    await ended.wait()
        if not ended.is_set() and self._limits.stop_s:
            measures.count("init_kills", init=self._init)
            self.unusual = f"{self._init} did not end within {within_s:.3g} s ({self._why(within_s)}) and was killed"
            self._tell(self.unusual)

    def ended_first(self, status: int) -> None:
        """PID 1 has ended with `status` while the application ran, so that the kernel has killed the application."""
        text = f"PID 1 ({self._init}) ended with {status} while the application ran"
        if status == _KILLED:
            text += ": a client killed it, or the kernel did, for lack of memory, say"
        else:
            self.unusual = text
        self._tell(text)

    def _why(self, within_s: float) -> str:
        if within_s == self._limits.stop_s:
            return self._limits.stop_source
        return f"what was left of the pod's grace period, {self._limits.grace_s:g} s"

    def _tell(self, text: str) -> None:
        _log.warning("container %s: %s", self._container_id, text)
        if self._log is not None:
            self._log.write("boot", "", [text])
