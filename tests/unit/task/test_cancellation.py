"""shim.task.cancellation: work that a cancellation does not cut short."""

import asyncio
import contextlib
import gc

import pytest

from shim.task.cancellation import run_shielded, run_to_completion
from tests.fakes.loop import in_loop

BOTH = pytest.mark.parametrize("run", [run_to_completion, run_shielded])


class Work:
    """Begins, waits until it may end, and then ends."""

    def __init__(self, error: Exception | None = None) -> None:
        self.may_end = asyncio.Event()
        self.log: list[str] = []
        self._error = error

    async def __call__(self) -> int:
        self.log.append("begun")
        await self.may_end.wait()
        self.log.append("ended")
        if self._error is not None:
            raise self._error
        return 42


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@BOTH
@in_loop
async def test_the_result_and_the_error_come_back(run):
    work = Work()
    work.may_end.set()
    assert await run(work()) == 42
    work = Work(KeyError("k"))
    work.may_end.set()
    with pytest.raises(KeyError):
        await run(work())


@BOTH
@in_loop
async def test_work_that_cancels_itself_is_a_cancellation(run):
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run(give_up())


@pytest.mark.parametrize("times", [1, 3])
@in_loop
async def test_the_whole_of_it_comes_before_the_cancellation(times):
    work = Work()
    waiting = asyncio.ensure_future(run_to_completion(work()))
    await turns()
    for _ in range(times):
        waiting.cancel()
        await turns()
    assert (waiting.done(), work.log) == (False, ["begun"])
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.log == ["begun", "ended"]


@in_loop
async def test_a_timeout_is_told_after_the_whole_of_it():
    work = Work()

    async def bounded() -> None:
        async with asyncio.timeout(0):
            await run_to_completion(work())

    waiting = asyncio.ensure_future(bounded())
    await asyncio.sleep(0.001)
    await turns()
    assert not waiting.done()
    work.may_end.set()
    with pytest.raises(TimeoutError):
        await waiting
    assert work.log == ["begun", "ended"]


@in_loop
async def test_what_runs_on_is_left_at_once():
    work = Work()
    waiting = asyncio.ensure_future(run_shielded(work()))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.log == ["begun"]
    work.may_end.set()
    await turns()
    assert work.log == ["begun", "ended"]


@BOTH
@in_loop
async def test_an_error_that_comes_after_the_cancellation_is_nobodys(run):
    said = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    work = Work(KeyError("k"))
    waiting = asyncio.ensure_future(run(work()))
    await turns()
    waiting.cancel()
    await turns()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await turns()
    gc.collect()
    assert said == []


@BOTH
@in_loop
async def test_what_failed_is_freed_with_its_error(run):
    """As containerd's CRI has it with each exec: a Kill that comes too late."""

    async def fail() -> None:
        raise KeyError("k")

    gc.collect()
    with contextlib.suppress(KeyError):
        await run(fail())
    waiting = asyncio.ensure_future(run(asyncio.sleep(0)))
    await asyncio.sleep(0)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    del waiting
    await turns()
    assert gc.collect() == 0
