"""shim.task.application.booting in a time of its own: when a boot is over, and who is let go with it."""

import asyncio
from functools import partial
from types import SimpleNamespace

import pytest

from runtime.cgroup import Cgroup
from runtime.errors import RuntimeFailed
from shim.task.application import booting as booting_module
from shim.task.application.app_life import AppPhase
from shim.task.application.booting import Booting
from shim.task.application.progress_deadline import IDLE_S, ProgressDeadline
from shim.task.application.timeouts import Timeouts
from tests.fakes.clock import in_time, now, settled

START_S, START_MAX_S = 60.0, 300.0


class Listener:
    """Stands for AppSocket: the launcher comes when the test says so."""

    def __init__(self):
        self.launcher = asyncio.get_running_loop().create_future()
        self.is_closed = False

    async def accept(self):
        return await asyncio.shield(self.launcher)

    def close(self):
        self.is_closed = True


class Launcher:
    is_closed = False

    def close(self):
        self.is_closed = True


class Queue:
    """Stands for BootQueue: when the place was let go, and whether there is one."""

    def __init__(self):
        self.left = []

    async def wait_for_turn(self, over):
        return not await over(5.0)

    def leave(self):
        self.left.append(now())


class Boot:
    """A boot by systemd whose console is the test's."""

    def __init__(self, before=None):
        self.console = SimpleNamespace(lines=0, last_lines=lambda: "A start job is running")
        self.queue = Queue()
        self.listener = Listener()
        limits = Timeouts(START_S, 0.0, START_MAX_S)
        self.booting = Booting("systemd", self.console, limits, before=before, queue=self.queue)
        self.life = self.booting.life

    def begin(self, cgroup=None):
        return asyncio.ensure_future(self.booting.boot(self.listener, cgroup))

    async def refused(self, boot):
        with pytest.raises(RuntimeFailed) as caught:
            await boot
        assert self.listener.is_closed
        return str(caught.value)


@pytest.fixture(autouse=True)
def own_time(monkeypatch):
    monkeypatch.setattr(booting_module, "ProgressDeadline", partial(ProgressDeadline, now=now))


@in_time
async def test_a_boot_is_over_with_its_launcher_and_makes_room_then():
    boot = Boot()
    booting = boot.begin()
    await asyncio.sleep(1)
    boot.listener.launcher.set_result(launcher := Launcher())
    assert await booting is launcher
    assert (launcher.is_closed, boot.listener.is_closed, boot.queue.left) == (False, True, [1.0])


@in_time
async def test_a_boot_that_hangs_makes_room_long_before_it_is_given_up():
    boot = Boot()
    said = await boot.refused(boot.begin())
    assert now() == START_S
    assert boot.queue.left[0] <= IDLE_S + 1
    assert said == (
        "systemd did not start the application: no progress within start-timeout, 60 s (rich.start-timeout);"
        " its console: "
        "A start job is running"
    )


@in_time
async def test_a_boot_that_goes_on_keeps_its_place_up_to_the_bound():
    boot = Boot()

    async def talk():
        while True:
            await asyncio.sleep(0.5)
            boot.console.lines += 1

    talking = asyncio.ensure_future(talk())
    said = await boot.refused(boot.begin())
    talking.cancel()
    assert (now(), boot.queue.left) == (START_MAX_S, [START_MAX_S])
    assert "not within start-timeout-max, 300 s" in said


@in_time
async def test_an_init_that_ends_ends_the_boot_at_once():
    boot = Boot()
    booting = boot.begin()
    await asyncio.sleep(2)
    boot.life.end()
    assert "PID 1 ended" in await boot.refused(booting)
    assert now() == 2


@in_time
async def test_a_boot_that_was_refused_processes_says_which_limit_and_one_that_was_before_does_not(tmp_path):
    (tmp_path / "pids.max").write_text("12\n")
    (tmp_path / "pids.events").write_text("max 4\n")
    for refused, expected in ((9, True), (9, False)):
        boot, cgroup = Boot(), Cgroup(unified=str(tmp_path))
        await boot.booting.wait_for_turn(cgroup)
        booting = boot.begin(cgroup)
        (tmp_path / "pids.events").write_text(f"max {refused}\n")
        boot.life.end()
        words = f"; the limit on the number of processes was reached 5 times: raise it from 12 ({tmp_path}/pids.max)"
        assert (words in await boot.refused(booting)) == expected


@in_time
async def test_a_launcher_that_comes_with_inits_end_is_let_go():
    boot = Boot()
    booting = boot.begin()
    await settled()
    boot.listener.launcher.set_result(launcher := Launcher())
    boot.life.end()
    assert "PID 1 ended" in await boot.refused(booting)
    assert launcher.is_closed


@in_time
async def test_a_stop_ends_the_wait_for_a_launcher_that_init_may_not_start_again():
    one = Boot()
    for phase in (AppPhase.BOOTING, AppPhase.RUNNING, AppPhase.RESTARTING):
        one.life.move(phase)
    again = asyncio.ensure_future(one.booting.adopt_again(one.listener, ProgressDeadline(10.0, 10.0), lambda: 0.0))
    await settled()
    assert not again.done()
    one.life.move(AppPhase.STOPPING)
    await settled()
    assert again.done()
    assert (again.result(), one.listener.is_closed) == (None, True)


@in_time
async def test_a_launcher_that_comes_after_a_signal_is_let_go():
    boot = Boot()
    booting = boot.begin()
    await settled()
    boot.life.move(AppPhase.CALLED_OFF)
    boot.listener.launcher.set_result(launcher := Launcher())
    assert "a signal ended the start" in await boot.refused(booting)
    assert launcher.is_closed


@in_time
async def test_a_launcher_is_let_go_where_what_is_mandatory_does_not_run():
    async def fail():
        raise RuntimeFailed("no agent")

    boot = Boot(fail)
    booting = boot.begin()
    boot.listener.launcher.set_result(launcher := Launcher())
    assert await boot.refused(booting) == "no agent"
    assert launcher.is_closed


@in_time
async def test_what_is_mandatory_has_the_start_timeout_and_is_cancelled_then():
    ends = []

    async def hang():
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            ends.append(now())
            raise

    boot = Boot(hang)
    with pytest.raises(RuntimeFailed, match="not within start-timeout, 60 s"):
        await boot.booting.mandatory()
    await settled()
    assert ends == [START_S]


@in_time
async def test_what_is_mandatory_counts_for_nothing_after_a_signal():
    boot = Boot()

    async def begin():
        boot.life.move(AppPhase.CALLED_OFF)

    boot.booting._before = begin
    with pytest.raises(RuntimeFailed, match="a signal ended the start"):
        await boot.booting.mandatory()


@in_time
async def test_what_is_mandatory_is_not_waited_for_when_init_has_ended():
    boot = Boot(lambda: asyncio.sleep(50))
    waiting = asyncio.ensure_future(boot.booting.mandatory())
    await asyncio.sleep(3)
    boot.life.end()
    with pytest.raises(RuntimeFailed, match="PID 1 ended"):
        await waiting
    assert now() == 3


@pytest.mark.parametrize(("end", "why"), [("call_off", "a signal ended the start"), ("end", "PID 1 ended")])
@in_time
async def test_a_wait_for_a_turn_ends_with_init_or_a_signal(end, why):
    boot = Boot()
    boot.life.move(AppPhase.CALLED_OFF) if end == "call_off" else boot.life.end()
    with pytest.raises(RuntimeFailed, match=f"was not started: {why} while it waited"):
        await boot.booting.wait_for_turn()


@in_time
async def test_a_turn_that_comes_is_one():
    boot = Boot()
    await boot.booting.wait_for_turn()
    assert now() == 5
    boot.booting.leave()
    assert boot.queue.left == [5.0]
