"""One blocking call in a thread of its own, for what the kernel offers no other way: mounts, umounts, a FIFO's open.

The thread ends with its call, so an idle pod server has none, and may change what belongs to a thread (its working
directory, after `unshare(CLONE_FS)`).
"""

import asyncio
from _thread import start_new_thread  # `threading` waits until the thread runs, for 0.1 ms
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def in_thread(call: Callable[[], T]) -> "asyncio.Future[T]":
    """Begin `call()` now; what it returns or raises is to be awaited. A cancelled wait does not stop the call."""
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
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)
        del error  # has this frame in its traceback

    start_new_thread(work, ())
    return done
