"""From a created init to an application that may run: the turn to boot, the launcher, and the mandatory agents.

A boot succeeds when the launcher has connected and been recognised (`adopt`). It fails where init ends first, a
client's signal calls it off, or it hangs or takes too long (`progress_deadline`). Nothing here lets the application
run.
"""

import asyncio
from collections.abc import Awaitable, Callable

from runtime.cgroup import Cgroup, pids
from runtime.cgroup.usage import cpu_s
from runtime.errors import RuntimeFailed
from shim.task.application.adopt import Adopted, AppSocket
from shim.task.application.app_life import AppLife, AppPhase
from shim.task.application.boot_console import BootConsole
from shim.task.application.boot_queue import BootQueue
from shim.task.application.progress_deadline import ProgressDeadline
from shim.task.application.timeouts import Timeouts


class Booting:
    """One container's boot, by an init called `init` whose console is `console`.

    `before` is awaited once the launcher has connected: it starts what is mandatory beside the application, or raises.
    `queue` limits how many inits boot at once. `life` is the application's.
    """

    def __init__(
        self,
        init: str,
        console: BootConsole,
        limits: Timeouts,
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        queue: BootQueue | None = None,
    ) -> None:
        self.life = AppLife()
        self._init = init
        self.console = console
        self._limits = limits
        self._before = before
        self._queue = queue
        self._refused: Callable[[], str] = str

    async def wait_for_turn(self, cgroup: Cgroup | None = None) -> None:
        """Return when the node has room for this boot. Raises RuntimeFailed if the boot is called off or init ends.

        `cgroup` is the container's; refused forks in it are counted from now on.
        """
        self._refused = _refused_since_now(cgroup)
        if self._queue is not None and not await self._queue.wait_for_turn(self._over_within):
            why = "a signal ended the start" if self.life.is_called_off else "PID 1 ended"
            raise RuntimeFailed(f"{self._init} was not started: {why} while it waited for its turn to boot")

    async def _over_within(self, seconds: float) -> bool:
        """Wait `seconds`, less if init ends. Return whether init has ended or the boot was called off."""
        waiting = asyncio.ensure_future(self.life.ended.wait())
        try:
            await asyncio.wait([waiting], timeout=seconds)
        finally:
            waiting.cancel()
        return self.life.ended.is_set() or self.life.is_called_off

    def leave(self) -> None:
        """Make room in the queue: the container does not boot any more, or not yet."""
        if self._queue is not None:
            self._queue.leave()

    async def adopt(
        self, listener: AppSocket, patience: ProgressDeadline, over: Awaitable[object] | None = None
    ) -> Adopted | None:
        """Wait for the launcher. None if a signal calls the boot off, the time is up, or `over` is done first.

        `over` is init's end by default. Closes `listener`.
        """
        adopting = asyncio.ensure_future(listener.accept())
        ended = asyncio.ensure_future(over or self.life.ended.wait())
        try:
            while (wait_s := patience.wait_s()) > 0 and not (adopting.done() or ended.done()):
                await asyncio.wait([adopting, ended], timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                patience.check_progress()
                if patience.is_idle:
                    self.leave()
            if not adopting.done():
                return None
            adopted = adopting.result()
            if ended.done() or self.life.is_called_off:
                adopted.close()
                return None
            return adopted
        finally:
            adopting.cancel()
            ended.cancel()
            listener.close()

    async def adopt_again(
        self, listener: AppSocket, patience: ProgressDeadline, pause_s: Callable[[], float]
    ) -> Adopted | None:
        """The launcher that init has started again, `pause_s` after it connected; None also if a stop comes first."""
        adopted = await self.adopt(listener, patience, self.life.leaving())
        if adopted is None:
            return None
        try:
            if self.life.is_in(AppPhase.RESTARTING) and await self.life.stays(pause_s()):
                return adopted
        except BaseException:
            adopted.close()
            raise
        adopted.close()
        return None

    async def boot(self, listener: AppSocket, cgroup: Cgroup | None) -> Adopted:
        """Return the launcher, once everything mandatory beside the application runs. Closes `listener`.

        `cgroup` is the container's; its CPU time counts as progress. Raises RuntimeFailed with init's last lines.
        """
        patience = ProgressDeadline(
            self._limits.start_s,
            self._limits.start_max_s,
            sources=self._limits.sources,
            spent=lambda: None if cgroup is None else cpu_s(cgroup),
            said=lambda: self.console.lines,
        )
        try:
            adopted = await self.adopt(listener, patience)
        finally:
            self.leave()
        if adopted is None:
            raise RuntimeFailed(
                f"{self._init} did not start the application: {self._why_not(patience.expiry_reason())}"
            )
        try:
            await self.mandatory()
        except BaseException:
            adopted.close()
            raise
        return adopted

    async def mandatory(self) -> None:
        """Start what is mandatory beside the application. Raises RuntimeFailed, also where the boot ends first."""
        if self._before is None:
            return
        beginning = asyncio.ensure_future(self._before())
        ended = asyncio.ensure_future(self.life.ended.wait())
        try:
            within_s = self._limits.start_s
            await asyncio.wait([beginning, ended], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() or self.life.is_called_off or not beginning.done():
                why = self._why_not(f"not within start-timeout, {within_s:g} s ({self._limits.sources[0]})")
                raise RuntimeFailed(f"the mandatory agents did not start: {why}")
            await beginning
        finally:
            beginning.cancel()
            ended.cancel()

    def _why_not(self, time_is_up: str) -> str:
        reason = time_is_up
        if self.life.is_called_off:
            reason = "a signal ended the start"
        elif self.life.ended.is_set():
            reason = "PID 1 ended"
        reason += self._refused()
        said = self.console.last_lines()
        return f"{reason}; its console: {said}" if said else f"{reason}; it said nothing on its console"


def _refused_since_now(cgroup: Cgroup | None) -> Callable[[], str]:
    """Returns a function whose text says how often the kernel has refused `cgroup` a process since this call, or "".

    An init that cannot fork does not report it: it tries again, or waits forever.
    """
    before = 0 if cgroup is None else pids.refused_forks(cgroup)

    def said() -> str:
        times = 0 if cgroup is None else pids.refused_forks(cgroup) - before
        if times <= 0:
            return ""
        held = None if cgroup is None else pids.limit(cgroup)
        where = "" if held is None else f": raise it from {held[0]} ({held[1]}/pids.max)"
        return f"; the limit on the number of processes was reached {times} times{where}"

    return said
