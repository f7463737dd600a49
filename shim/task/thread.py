"""One blocking call in a thread of its own, for what the kernel offers no other way: mounts, umounts, a FIFO's open.

The thread ends with its call, so an idle pod server has none, and may change what belongs to a thread (its working
directory, after `unshare(CLONE_FS)`).
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return what `call()` returns, or raise what it raises. A cancelled wait does not stop the call."""
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
        loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True).start()
    return await done
