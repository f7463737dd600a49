"""Coroutines as tests: each in an event loop of its own, with a limit of its own."""

import asyncio
import functools
import gc
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

LIMIT_S = 20
_TASKS = "/proc/self/task"
_OF_PYTEST = len(os.listdir(_TASKS))
"""The main thread, and what pytest and its plugins have beside it when tests are collected: pytest-xdist has one."""


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the coroutine function `test` as a test; what it leaves unawaited is an error by configuration."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*args, **kwargs)

        asyncio.run(limited())

    return run


async def until(true: Callable[[], Any], *, timeout_s: float = 5.0) -> None:
    """Return once `true()` is; raise TimeoutError where that does not come. For what nothing can be awaited of."""
    async with asyncio.timeout(timeout_s):
        while not true():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


async def until_async(true: Callable[[], Awaitable[Any]], *, timeout_s: float = 5.0) -> None:
    """`until` for a question that is itself awaited."""
    async with asyncio.timeout(timeout_s):
        while not await true():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


def threads() -> int:
    """How many threads there are that a test, or what it tests, has begun."""
    return len(os.listdir(_TASKS)) - _OF_PYTEST


def open_fds(pid: int | str = "self") -> set[str]:
    """The open descriptors of a process as `number -> what`, without the one that reading them takes.

    Of this process it is what is in use: what earlier tests left to the garbage collector is closed first, as it would
    otherwise be closed between two looks.
    """
    if pid == "self":
        gc.collect()
    return _descriptors(pid)


def _descriptors(pid: int | str) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = entry.readlink()
        except OSError:
            continue
        if f"/proc/{pid}/fd" not in str(target) and not str(target).endswith("/fd"):
            found.add(f"{entry.name} -> {target}")
    return found


def open_below(directory: Path | str) -> int:
    """How many descriptors this process has of files below `directory`, removed ones too."""
    return sum(f" -> {directory}/" in found for found in _descriptors("self"))
