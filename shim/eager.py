"""Starts a task that runs at once, up to its first wait (asyncio.Task, `eager_start`; Python 3.12 and later).

A coroutine that never waits is done when `start` returns, and costs the event loop no pass.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
    """A task for `work`; done already if it did not wait. Before Python 3.12 it runs in the loop's next pass."""
    loop = asyncio.get_running_loop()
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)
    return loop.create_task(work)
