"""Mounts a container's root file system and then examines it, in one thread beside the event loop.

Both may block for as long as a file system does not answer. One thread does both, because each hand-over to another
thread waits for a CPU, which takes milliseconds on a busy node.
"""

import asyncio
from _thread import allocate_lock
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from runtime import rootfs
from runtime.oci.cli import Run
from shim.task.cancellation import hear
from shim.task.thread import in_thread

T = TypeVar("T")


def _no_look() -> None:
    """The look of a container whose image need not be examined."""


class Mounting(Generic[T]):
    """Begins to mount `mounts` on the host directory `target`; `shown` is a second path that shows the same.

    The future `inspection` has the return value of the function passed to `inspect_when_mounted`, None without one, or
    the exception of that function or of `rootfs.mount_all`. Cancelling a wait for it stops neither.
    """

    def __init__(self, mounts: Sequence[rootfs.Mount], target: str, *, run: Run, shown: str = "") -> None:
        self._target = target if mounts else ""
        self._shown = shown
        self._mounted = allocate_lock()
        self._mounted.acquire()
        self._told = allocate_lock()
        self._told.acquire()
        self._is_told = False
        self._look: Callable[[], T | None] = _no_look
        loop = asyncio.get_running_loop()

        def run_helper(words: list[str]) -> int:
            return asyncio.run_coroutine_threadsafe(_awaited(run(words, {})), loop).result()

        def work() -> T | None:
            try:
                rootfs.mount_all(mounts, target, run=run_helper)
                if shown:
                    rootfs.show(target, shown)
            finally:
                self._mounted.release()
            with self._told:
                return self._look()

        self.inspection = in_thread(work)
        self.inspection.add_done_callback(hear)  # nobody may be left to do so, when a Create was given up

    def inspect_when_mounted(self, look: Callable[[], T | None] = _no_look) -> None:
        """Have `look` called once all is mounted. Must be called once, unless the mount is undone."""
        self._is_told, self._look = True, look
        self._told.release()

    async def undo(self) -> None:
        """Unmount, after waiting for a mount(2) under way, which cannot be interrupted. Does not wait for a look.

        Raises OSError where something stays mounted.
        """

        if not self._is_told:
            self.inspect_when_mounted()

        def work() -> None:
            with self._mounted:
                if self._shown:
                    rootfs.hide(self._shown)
                rootfs.unmount_all(self._target)

        if self._target:
            await in_thread(work)


async def _awaited(waiting: Awaitable[int]) -> int:
    return await waiting
