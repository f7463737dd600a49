"""shim.task.report.reading: what a container prints takes a share of the event loop's time, and no more."""

import asyncio
import os

import pytest

from shim.task.report import reading
from shim.task.report.reading import ThrottledReader
from tests.fakes.loop import in_loop, until


class Costly:
    """A pipe of which each read takes as much processor time as is set. It is always full."""

    def __init__(self, cost_s: float) -> None:
        self.cost_s = cost_s
        self.spent_s = 0.0
        self.reads: list[float] = []
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(self.writer, b"x")
        self.reading = ThrottledReader(self.reader, self.read, spent=lambda: self.spent_s)

    def read(self) -> None:
        self.reads.append(asyncio.get_running_loop().time())
        self.spent_s += self.cost_s

    def close(self) -> None:
        self.reading.close()
        self.reading.close()
        for fd in (self.reader, self.writer):
            os.close(fd)


@in_loop
async def test_what_costs_little_is_read_at_once():
    costly = Costly(0.0)
    await until(lambda: len(costly.reads) > 100)
    assert costly.reading._pause is None
    costly.close()


@in_loop
async def test_what_costs_more_than_its_share_waits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "BURST_S", 0.02)
    costly = Costly(0.01)
    began = asyncio.get_running_loop().time()
    await until(lambda: len(costly.reads) >= 6)
    took = asyncio.get_running_loop().time() - began
    assert took >= (5 * 0.01 - 0.02) / reading.SHARE
    await until(lambda: costly.reading._pause is not None)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, about: told.append(about))
    costly.close()
    await asyncio.sleep(0.2)
    assert told == [], "it went on after its close"


@in_loop
async def test_who_reads_may_end_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "SHARE", 100.0)  # it would go on after a tenth of a second
    costly = Costly(10.0)
    read = costly.reading._read
    costly.reading._read = lambda: (read(), costly.reading.close())
    await asyncio.sleep(0.3)
    assert len(costly.reads) == 1
    assert asyncio.get_running_loop().remove_reader(costly.reader) is False
    costly.close()
