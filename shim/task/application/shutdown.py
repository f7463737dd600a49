"""Shuts down an init whose application has ended."""

import asyncio
from collections.abc import Callable
from contextlib import suppress


async def power_off(tell: Callable[[], None], ended: asyncio.Event, *, within_s: float, again_s: float) -> None:
    """Call `tell` at once and then every `again_s` seconds until `ended` is set, for `within_s` at the most."""
    clock = asyncio.get_running_loop().time
    end = clock() + within_s
    while not ended.is_set() and (left := end - clock()) > 0:
        tell()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(left, again_s)):
                await ended.wait()
