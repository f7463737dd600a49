"""Runs one blocking call in a thread of its own, where the kernel has no other way: mount, umount, open of a FIFO.

The thread ends with the call, so an idle pod server has no threads. The call may change the thread's own state (its
working directory, after `unshare(CLONE_FS)`).
"""

import asyncio
import errno
from _thread import start_new_thread  # `threading` would wait 0.1 ms for the thread to run
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

PAUSE_S, PAUSES = 0.1, 100
"""The pauses between attempts to start a thread, for which the node or the cgroup may have no process left."""


def in_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Begin `call()` now; the future has its result or exception. Cancelling the wait does not stop the call.

    A thread that cannot be started is tried again for 10 s; then the future has OSError (EAGAIN, clone(2)). Raises
    nothing: some callers are told of a process's end, and must go on.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            result, error = call(), None
        except BaseException as err:
            result, error = None, err
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)
        del error  # its traceback refers to this frame: a reference cycle

    def begin(attempts: int) -> None:
        try:
            start_new_thread(work, ())
        except RuntimeError as err:
            if attempts:
                loop.call_later(PAUSE_S, begin, attempts - 1)
            else:
                settle(None, OSError(errno.EAGAIN, str(err)))

    begin(PAUSES)
    return done
