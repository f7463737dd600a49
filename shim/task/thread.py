"""Runs one blocking call in a thread of its own, where the kernel has no other way: mount, umount, open of a FIFO.

The thread ends with the call, so an idle pod server has no threads. The call may change the thread's own state (its
working directory, after `unshare(CLONE_FS)`).
"""

import asyncio
from _thread import start_new_thread  # `threading` would wait 0.1 ms for the thread to run
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Begin `call()` now; the future has its result or exception. Cancelling the wait does not stop the call."""
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

    start_new_thread(work, ())
    return done
