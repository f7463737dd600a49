"""When a pod server gives memory back."""

import asyncio

import pytest

from runtime.linux import heap
from shim.pod import trim
from shim.pod.trim import Trim
from tests.fakes.clock import in_time
from tests.fakes.loop import until


class Memory:
    """Stands in for what is shared: `results` are what giving back returns, the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *results: int | None) -> None:
        self.results = list(results)
        self.given = 0
        monkeypatch.setattr(heap, "is_shared", lambda: True)
        monkeypatch.setattr(heap, "give_back", self.give_back)

    def give_back(self) -> int | None:
        self.given += 1
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trim, "QUIET_S", 0.05)
    monkeypatch.setattr(trim, "AGAIN_S", 0.3)


def nothing() -> None:
    """Gives nothing back."""


def timers() -> int:
    """How many timers of the loop are pending, but for the test's own."""
    loop = asyncio.get_running_loop()
    return sum("Trim" in repr(handle) for handle in loop._scheduled)  # type: ignore[attr-defined]


@in_time
async def test_it_gives_back_once_after_the_last_answer_and_then_has_no_timer(monkeypatch: pytest.MonkeyPatch):
    memory = Memory(monkeypatch, 100)
    pod = Trim(asyncio.get_running_loop(), nothing)
    for _ in range(10):
        pod.answered()
        assert timers() == 1
        await asyncio.sleep(0.02)  # less than the quiet
        assert memory.given == 0
    await until(lambda: memory.given == 1)
    await asyncio.sleep(0.2)
    assert memory.given == 1
    assert timers() == 0


@in_time
async def test_a_pod_that_is_asked_all_the_time_gives_back_seldom(monkeypatch: pytest.MonkeyPatch):
    memory = Memory(monkeypatch, 100)
    loop = asyncio.get_running_loop()
    pod = Trim(loop, nothing)
    pod.answered()
    await until(lambda: memory.given == 1)
    began = loop.time()
    pod.answered()
    await until(lambda: memory.given == 2)
    assert loop.time() - began > 0.2
    assert timers() == 0


@in_time
async def test_a_thread_at_work_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    memory = Memory(monkeypatch, None, None, 100)
    Trim(asyncio.get_running_loop(), nothing).answered()
    await until(lambda: memory.given == 3)
    await asyncio.sleep(0.1)
    assert (memory.given, timers()) == (3, 0)


@in_time
async def test_without_shared_memory_only_the_rest_is_given_back():
    rested = []
    Trim(asyncio.get_running_loop(), lambda: rested.append(1)).answered()
    await until(lambda: rested == [1])
    assert timers() == 0


@in_time
async def test_what_is_kept_open_is_given_back_with_the_memory(monkeypatch: pytest.MonkeyPatch):
    memory = Memory(monkeypatch, 100)
    rested = []
    pod = Trim(asyncio.get_running_loop(), lambda: rested.append(memory.given))
    pod.answered()
    await until(lambda: memory.given == 1)
    assert rested == [0]
    await asyncio.sleep(0.2)
    assert rested == [0]
