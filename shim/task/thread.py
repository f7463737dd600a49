"""Runs one blocking call in a thread of its own, where the kernel has no other way: mount, umount, open of a FIFO.

The thread ends with the call, so an idle pod server has no threads. The call may change the thread's own state (its
working directory, after `unshare(CLONE_FS)`).
"""

import asyncio
import errno
from _thread import start_new_thread  # `threading` would wait 0.1 ms for the thread to run
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from runtime.errors import FailedPrecondition

T = TypeVar("T")

PAUSE_S, PAUSES = 0.1, 100
"""The pauses between attempts to start a thread, for which the node or the cgroup may have no process left."""

NODE_PATIENCE_S = 5.0
"""How long the node's own files may take to answer."""

_unanswered: dict[tuple[str, int], "asyncio.Future[Any]"] = {}
"""The looks that have not answered in time and still wait, each in its thread, by what they look at."""


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

    _start(loop, work, lambda reason: settle(None, OSError(errno.EAGAIN, reason)), PAUSES)
    return done


def _start(
    loop: asyncio.AbstractEventLoop, work: Callable[[], None], fail: Callable[[str], None], attempts: int
) -> None:
    try:
        start_new_thread(work, ())
    except RuntimeError as err:
        if attempts:
            loop.call_later(PAUSE_S, _start, loop, work, fail, attempts - 1)
        else:
            fail(str(err))


async def answered(call: Callable[[], T], *, what: str, patience_s: float, of: int = 0) -> T:
    """The result of `call()`, which looks at files whose file system may not answer: NFS, FUSE, or a pod's volume.

    `of` is the PID of a container's init, where `what` alone does not say whose files they are. Raises
    FailedPrecondition, naming `what`, after `patience_s`. The thread then stays until the file system answers, and
    until then the same question is refused at once: whoever asks again and again must not leave a thread each time.
    """
    key = what, of
    if key in _unanswered:
        raise FailedPrecondition(f"{what} still did not answer: does its file system hang?")
    looking = in_thread(call)
    try:
        async with asyncio.timeout(patience_s):
            return await asyncio.shield(looking)
    except TimeoutError:
        _unanswered[key] = looking
        looking.add_done_callback(lambda _: _unanswered.pop(key, None))
        raise FailedPrecondition(f"{what} did not answer for {patience_s:g} s: does its file system hang?") from None
