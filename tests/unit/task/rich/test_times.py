"""shim.task.rich.times: how long a stop took is counted where there was one."""

import asyncio
import signal

import pytest

from runtime.bundle_log import BundleLog
from runtime.config.signal_names import RTMIN
from shim.task.application.stop import StopTracker
from shim.task.rich import times as times_module
from shim.task.rich.times import LifecycleTimes
from tests.fakes.clock import in_time


@pytest.fixture
def times(tmp_path, monkeypatch):
    """Times under systemd with a grace period of 30 s, and what was counted, (name, seconds)."""
    told = []
    monkeypatch.setattr(
        times_module.measures, "observe_seconds", lambda name, seconds, **labels: told.append((name, seconds))
    )
    stop = StopTracker("systemd", None, 30.0)
    return LifecycleTimes(BundleLog(str(tmp_path)), "systemd", stop), stop, told


@pytest.mark.parametrize("number", [signal.SIGTERM, RTMIN + 3, signal.SIGWINCH])
@in_time
async def test_a_stop_is_counted_from_its_signal(times, number):
    one, stop, told = times
    stop.signalled(number)
    await asyncio.sleep(7)
    one.ended()
    assert told == [("stop_seconds", 7.0)]


@in_time
async def test_an_end_long_after_a_signal_is_no_stop(times):
    one, stop, told = times
    stop.signalled(signal.SIGHUP)
    await asyncio.sleep(3600)
    one.ended()
    assert told == []
