"""Runs work that a cancellation must not interrupt, because nobody could undo half of it.

Cancelling a task cancels the task that it awaits (asyncio, Task.cancel); `run_to_completion` and `run_shielded` prevent
that. They differ in when the caller gets its own cancellation.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from shim import eager

T = TypeVar("T")


async def run_to_completion(work: Awaitable[T]) -> T:
    """Await `work` to its end, however often the wait is cancelled; then raise the cancellation.

    An exception of `work` is then lost.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as err:
            cancelled = err
    try:
        if cancelled is not None:
            hear(task)
            raise cancelled
        return task.result()
    finally:
        del task, cancelled  # the traceback refers to this frame: a reference cycle


async def run_shielded(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`. A cancelled wait ends at once; `work` goes on to its end, and its exception is lost."""
    task = eager.start(work)
    if not task.done():
        task.add_done_callback(hear)
        await asyncio.wait([task])
    try:
        return task.result()
    finally:
        del task  # as above


def hear(done: "asyncio.Future[T]") -> None:
    """Retrieve the exception, or asyncio would log that nobody did."""
    with suppress(asyncio.CancelledError):
        done.exception()


def push_uncancellable(undo: AsyncExitStack, call: Callable[[], Awaitable[None]]) -> None:
    """Register `call` so that a cancellation which arrives while it runs does not cut it short."""

    async def whole() -> None:
        await run_to_completion(call())

    undo.push_async_callback(whole)
