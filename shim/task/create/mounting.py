"""A container's root file system on its way: mounted, and then looked at, in one thread beside the event loop.

Both may block for as long as a file system does not answer. One thread for the two, as each hand-over from thread to
thread waits for a processor: on a node that is busy that is milliseconds.
"""

import asyncio
from _thread import allocate_lock
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from runtime import rootfs
from runtime.oci.cli import Run
from shim.task.thread import in_thread

T = TypeVar("T")


def _no_look() -> None:
    """What is looked for where nothing matters."""


class Mounting(Generic[T]):
    """Begin to mount `mounts` on the host directory `target`; `shown` is where it is to be seen too.

    `looked` is what the look that `look` has begun returns, None without one; it raises what `rootfs.mount_all` and the
    look do. A wait for it that is cancelled stops neither.
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

        self.looked = in_thread(work)
        self.looked.add_done_callback(_seen)

    def look(self, look: Callable[[], T | None] = _no_look) -> None:
        """Look once all is mounted. To be said once, or it is undone."""
        self._is_told, self._look = True, look
        self._told.release()

    async def undo(self) -> None:
        """Unmount, after a mount(2) under way, which cannot be called back; a look under way is not waited for.

        Raises OSError where something stays mounted.
        """

        if not self._is_told:
            self.look()

        def work() -> None:
            with self._mounted:
                if self._shown:
                    rootfs.hide(self._shown)
                rootfs.unmount_all(self._target)

        if self._target:
            await in_thread(work)


def _seen(done: "asyncio.Future[T]") -> None:
    """Asyncio reports an error that nobody has looked at: a Create that was given up does not."""
    if not done.cancelled():
        done.exception()


async def _awaited(waiting: Awaitable[int]) -> int:
    return await waiting
