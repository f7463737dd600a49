"""shim.task.application.restarts: restarts in place are counted, and why there are no more is named."""

import asyncio

import pytest

from runtime import bundle_log
from runtime.bundle_log import BundleLog
from shim.task.application import restarts
from shim.task.application.restarts import START_LIMIT, START_LIMIT_S, Restarts
from tests.fakes.loop import in_loop


@pytest.fixture
def said(caplog):
    return lambda: [record.getMessage() for record in caplog.records]


def test_each_is_counted_and_told_before_it_is_noted(tmp_path, said):
    noted = []
    one = Restarts("c", "systemd", wanted=True, log=BundleLog(str(tmp_path)))
    one.watch(lambda: noted.append((one.count, len(said()))))
    for at in range(3):
        one.started(float(at))
        one.restarted(3)
    assert noted == [(1, 1), (2, 2), (3, 3)]
    assert said()[0] == "container c: the application ended with 3 and was restarted"
    assert [line["text"] for line in bundle_log.read(str(tmp_path))] == [
        "the application ended with 3 and was restarted"
    ] * 3


@in_loop
async def test_no_more_than_systemds_limit_of_starts_come_in_its_time(monkeypatch):
    monkeypatch.setattr(restarts, "START_LIMIT_S", 0.2)
    loop = asyncio.get_running_loop()
    began = loop.time()
    one = Restarts("c", "systemd", wanted=True)
    for number in range(2 * START_LIMIT + 1):
        await asyncio.sleep(one.pause_s())
        assert loop.time() - began >= number // START_LIMIT * 0.2
        one.started(loop.time())
    await asyncio.sleep(0.3)
    assert one.pause_s() == 0


@pytest.mark.parametrize(
    ("times", "limit"),
    [
        ([0.0, 0.2, 0.4, 0.6, 0.8], True),
        ([0.0, 60.0, 60.2, 60.4, 60.6, 60.8], True),
        ([0.0, 0.2, 0.4, 0.6], False),
        ([0.0, 2.5, 5.0, 7.5, 10.0], False),
    ],
)
def test_systemds_start_limit_is_named_where_it_is_what_ended_it(times, limit, said):
    one = Restarts("c", "systemd", wanted=True)
    for at in times:
        one.started(at)
    one.given_up(7)
    (text,) = said()
    assert text.startswith("container c: the application ended with 7 and was not restarted: ")
    assert ("systemd's start limit ended rich.restart, 5 starts in 10 s" in text) == limit
    assert ("systemd did not start it again within 10 s" in text) != limit


def test_a_reason_that_is_known_is_told_whatever_the_starts_were(said):
    one = Restarts("c", "systemd", wanted=True)
    for at in range(START_LIMIT):
        one.started(at / 10)
    one.given_up(7, "too many open files")
    assert said() == ["container c: the application ended with 7 and was not restarted: too many open files"]


def test_the_limit_is_systemds_own():
    """systemd-system.conf(5): DefaultStartLimitIntervalSec=10s, DefaultStartLimitBurst=5."""
    assert (START_LIMIT, START_LIMIT_S) == (5, 10.0)
