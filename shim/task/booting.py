"""From a started init to an application that may run: the launcher is waited for, and what has to run beside it.

A boot is over when the launcher has connected and been recognised (`adopt`), and fails where init ends first, a
client's signal calls it off, or it hangs or takes too long (`progress`). Nothing here lets the application run.
"""

import asyncio
from collections.abc import Awaitable, Callable

from runtime.errors import RuntimeFailed
from shim.task.adopt import Adopted, AppSocket
from shim.task.boot_console import BootConsole


class Booting:
    """One container's boot, by an init called `init` whose console is `console`.

    `start_s` is how long it may take, in seconds. `before` is awaited once the launcher is there: what has to run
    beside the application does by then, or it raises.
    """

    def __init__(
        self,
        init: str,
        console: BootConsole,
        *,
        start_s: float,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.ended = asyncio.Event()
        self._init = init
        self._console = console
        self._start_s = start_s
        self._before = before
        self._is_called_off = False

    def call_off(self) -> None:
        """A signal came, and init is being killed."""
        self._is_called_off = True

    async def adopt(self, listener: AppSocket, timeout_s: float) -> Adopted | None:
        """The launcher; None where init ends, a signal calls it off or the time is up first. Closes `listener`."""
        adopting = asyncio.ensure_future(listener.accept())
        ended = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait([adopting, ended], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not adopting.done():
                return None
            adopted = adopting.result()
            if ended.done() or self._is_called_off:
                adopted.close()
                return None
            return adopted
        finally:
            adopting.cancel()
            ended.cancel()
            listener.close()

    async def boot(self, listener: AppSocket) -> Adopted:
        """The launcher, and all that is mandatory beside the application runs. Closes `listener`.

        Raises RuntimeFailed, with what init said last.
        """
        adopted = await self.adopt(listener, self._start_s)
        if adopted is None:
            raise RuntimeFailed(f"{self._init} did not start the application: {self._why_not()}")
        try:
            await self.mandatory()
        except BaseException:
            adopted.close()
            raise
        return adopted

    async def mandatory(self) -> None:
        """Have what is mandatory beside the application run. Raises RuntimeFailed, also where the boot ends first."""
        if self._before is None:
            return
        beginning = asyncio.ensure_future(self._before())
        ended = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait([beginning, ended], timeout=self._start_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() or self._is_called_off or not beginning.done():
                raise RuntimeFailed(f"what is mandatory beside the application did not start: {self._why_not()}")
            await beginning
        finally:
            beginning.cancel()
            ended.cancel()

    def _why_not(self) -> str:
        if self._is_called_off:
            reason = "a signal ended the start"
        elif self.ended.is_set():
            reason = "PID 1 ended"
        else:
            reason = f"not within start-timeout, {self._start_s:g} s"
        said = self._console.last_lines()
        return f"{reason}; its console: {said}" if said else f"{reason}; it said nothing on its console"
