import asyncio
import gc

import pytest

from shim.task.prefetch import Prefetch
from tests.fakes import garbage
from tests.fakes.loop import in_loop, threads, until


def counted(calls, result=7):
    def call():
        calls.append(1)
        if isinstance(result, Exception):
            raise result
        return result

    return call


@in_loop
async def test_it_is_found_out_while_another_is_waited_for():
    calls = []
    ahead = Prefetch(counted(calls))
    assert not calls
    await asyncio.sleep(0)
    assert len(calls) == 1
    assert (ahead.value(), ahead.value(), len(calls)) == (7, 7, 1)


@in_loop
async def test_who_needs_it_at_once_does_not_wait():
    calls = []
    assert Prefetch(counted(calls, result=None)).value() is None
    await asyncio.sleep(0)
    assert len(calls) == 1


@pytest.mark.parametrize("waits", [True, False])
@in_loop
async def test_it_is_freed_without_a_garbage_collection(waits):
    await until(lambda: threads() == 0)  # an earlier test's, which makes garbage of our code too
    gc.collect()
    ahead = Prefetch(counted([]))
    if waits:
        await asyncio.sleep(0)
    ahead.value()
    await asyncio.sleep(0)
    del ahead
    assert garbage.of_ours() == []


@pytest.mark.parametrize("waits", [True, False])
@in_loop
async def test_an_error_is_for_who_asks(waits):
    calls = []
    ahead = Prefetch(counted(calls, OSError("no")))
    if waits:
        await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(OSError, match=r"^no$"):
            ahead.value()
    assert len(calls) == 1
