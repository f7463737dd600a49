"""shim.task.application.stop: a signal is a stop, for good or for as long as a stop takes."""

import asyncio
import signal

import pytest

from runtime.config.signal_names import RTMIN
from shim.task.application.stop import WINDOW_S, StopTracker
from tests.fakes.clock import in_time

HALT = RTMIN + 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, HALT])
@in_time
async def test_a_stop_is_one_for_good_and_began_with_the_first(number):
    stop = StopTracker("systemd", signal.SIGUSR2, 10.0)
    assert stop.for_s() is None
    assert stop.signalled(number) == (signal.SIGUSR2 if number in (signal.SIGTERM, HALT) else number)
    await asyncio.sleep(100)
    stop.signalled(signal.SIGTERM)
    assert (stop.for_s(), stop.is_for_good) == (100.0, True)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize(("grace_s", "window_s"), [(10.0, 10.0), (None, WINDOW_S)])
@in_time
async def test_another_signal_counts_for_as_long_as_a_stop_takes(grace_s, window_s, number):
    stop = StopTracker("systemd", None, grace_s)
    assert stop.signalled(number) == number
    await asyncio.sleep(window_s - 1)
    stop.signalled(signal.SIGHUP)
    assert stop.for_s() == window_s - 1, "the first began it"
    await asyncio.sleep(2)
    assert stop.for_s() is None
    stop.signalled(signal.SIGHUP)
    await asyncio.sleep(3)
    assert (stop.for_s(), stop.is_for_good) == (3.0, False)
    stop.signalled(signal.SIGTERM)
    assert (stop.for_s(), stop.is_for_good) == (0.0, True)


@pytest.mark.parametrize(
    ("asked", "number", "sent"),
    [
        (None, signal.SIGTERM, HALT),
        (None, signal.SIGHUP, signal.SIGHUP),
        (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1),
        (signal.SIGUSR1, signal.SIGHUP, signal.SIGHUP),
        (signal.SIGINT, signal.SIGTERM, HALT),
    ],
)
def test_an_init_that_is_the_command_is_told_to_shut_down_or_what_the_pod_said(asked, number, sent):
    stop = StopTracker("systemd", asked, None)
    assert stop.for_init(number, [(signal.SIGTERM, HALT), (signal.SIGINT, HALT)]) == sent
