"""An application in a time of its own: the order of a stop, its times, and what it is given."""

import asyncio
import errno
import os
import signal
import socket
from types import SimpleNamespace

import pytest

from runtime import bundle_log
from runtime.bundle_log import BundleLog
from runtime.errors import RuntimeFailed
from runtime.init.boot import AppProcess, Boot
from shim.task.application import application, shutdown
from shim.task.application.adopt import Adopted
from shim.task.application.app_exit import ExitStatusSource
from shim.task.application.app_life import AppPhase
from shim.task.application.application import RESTART_TIMEOUT_S, Application
from shim.task.application.boot_console import BootConsole
from shim.task.application.booting import Booting as RealBooting
from shim.task.application.restarts import START_LIMIT, START_LIMIT_S, Restarts
from shim.task.application.shutdown import Shutdown
from shim.task.application.stop import StopTracker
from shim.task.application.timeouts import RESERVE_S, Timeouts
from shim.task.reaper import Exit
from tests.fakes.clock import in_time, now, settled

INIT = 1 << 30
POWEROFF = signal.SIGPWR
STOP_S = 30.0


class Booting(RealBooting):
    """The boot, to which launchers come when the test says so."""

    def __init__(self, *args, **given):
        super().__init__(*args, **given)
        self.launchers = asyncio.Queue()
        self.patience = []
        self.left = False

    async def boot(self, listener, cgroup):
        return await self.launchers.get()

    async def adopt(self, listener, patience, over=None):
        over.close()
        self.patience.append(patience)
        return await self.launchers.get()

    async def mandatory(self):
        pass

    def leave(self):
        self.left = True


class Ends:
    """Stands for ApplicationExit: the test sets the status."""

    def __init__(self, container_id, adopted, manner, loop):
        assert container_id == "c"
        self.future = loop.create_future()
        self.adopted = adopted

    async def wait(self):
        return await asyncio.shield(self.future)

    @property
    def status(self):
        return self.future.result() if self.future.done() and not self.future.cancelled() else None

    def settle(self):
        if not self.future.done():
            self.future.set_result(137)

    def close(self):
        self.future.cancel()


class Stdio:
    """The client's streams: descriptors that the test gave."""

    def __init__(self, fds=None):
        self.fds = fds or {}
        self.said = []

    def child_fds(self):
        return self.fds

    async def attach(self):
        self.said.append("attach")

    def process_ended(self):
        self.said.append("process_ended")

    def discard(self):
        self.said.append("discard")


class World:
    """One application with everything around it, and what it did: (time, what) of each signal."""

    def __init__(self, directory, monkeypatch):
        self.directory = directory / "c"
        self.directory.mkdir()
        self.signals = []
        self.given = []
        self.forgotten = []
        self.exits = []
        self.far_ends = []
        self.stdio = Stdio()
        self.counted = []
        monkeypatch.setattr(shutdown.measures, "count", lambda name, **labels: self.counted.append((name, labels)))
        monkeypatch.setattr(application, "exit_status_source", lambda: ExitStatusSource.PIDFD_INFO)
        monkeypatch.setattr(application, "ApplicationExit", self._ends)
        monkeypatch.setattr(application, "AppSocket", lambda *args, **given: SimpleNamespace(close=lambda: None))
        monkeypatch.setattr(application.rundir, "forget_settings", self.forgotten.append)
        monkeypatch.setattr(application.pidfd, "send_signal", self._signal_application)
        monkeypatch.setattr(application.os, "kill", self._kill)
        monkeypatch.setattr(application.os, "fchown", lambda fd, uid, gid: self.given.append((fd, uid, gid)))
        (self.directory / "launch").touch()

    def _ends(self, *given):
        self.exits.append(Ends(*given))
        return self.exits[-1]

    def _kill(self, pid, number):
        assert pid == INIT
        self.signals.append((now(), number))

    def _signal_application(self, fd, number):
        os.fstat(fd)
        self.signals.append((now(), "application", number))

    def make(self, init="sysvinit", *, launch=True, streams=False, **given):
        limits = {"start_s": 60.0, "stop_s": STOP_S, **given.pop("limits", {})}
        restarts = Restarts("c", init, wanted=limits.pop("restarts", False))
        boot = Boot(init, POWEROFF, launch=AppProcess(("x",)) if launch else None, streams=streams)
        stop = StopTracker(init, given.pop("stop_signal", None), limits.get("grace_s"))
        limits = Timeouts(**limits)
        made = Shutdown("c", init, limits, given.pop("log", None))
        given = {"shutdown": made, "stop": stop, "restarts": restarts, "app_uid": 1000, **given}
        booting = Booting(init, BootConsole("c", str(self.directory), private=not streams), limits)
        one = Application(boot, booting, str(self.directory), self.stdio, **given)
        one._init_pid = INIT
        one._listener = one._listen() if launch else None
        return one

    def launcher(self):
        """One that has connected and waits for its answer."""
        near, far = socket.socketpair()
        self.far_ends.append(far)
        return Adopted(INIT + 1, os.open(os.devnull, os.O_RDONLY), near)

    def received(self):
        """The descriptors that the last launcher was given."""
        _, fds, _, _ = socket.recv_fds(self.far_ends[-1], 1, 3)
        return fds

    async def run(self, *args, **given):
        """An application that runs."""
        one = self.make(*args, **given)
        one._booting.launchers.put_nowait(self.launcher())
        await one.ready()
        await settled()
        return one

    async def end(self, status=0):
        self.exits[-1].future.set_result(status)
        await settled()

    def close(self):
        for one in self.far_ends:
            one.close()


@pytest.fixture
def world(tmp_path, monkeypatch):
    one = World(tmp_path, monkeypatch)
    yield one
    one.close()


async def at(seconds):
    await asyncio.sleep(seconds - now())


@in_time
async def test_init_is_told_every_second_and_killed_when_its_time_is_over(world):
    one = await world.run()
    await world.end()
    await at(STOP_S + 5)
    assert world.signals == [*((float(second), POWEROFF) for second in range(30)), (STOP_S, signal.SIGKILL)]
    one.close()


@in_time
async def test_before_init_is_told_nothing_is_started_beside_it_any_more(world):
    """sysvinit would wait for an agent that is started again and again."""
    one = await world.run(leaving=lambda: world.signals.append((now(), "leaving")))
    assert world.signals == []
    await world.end(3)
    assert world.signals == [(0.0, "leaving"), (0.0, POWEROFF)]
    one.close()


@in_time
async def test_systemd_is_told_once_and_killed_when_its_time_is_over(world):
    one = await world.run("systemd")
    await world.end()
    await at(STOP_S + 5)
    assert world.signals == [(0.0, POWEROFF), (STOP_S, signal.SIGKILL)]
    one.close()


@pytest.mark.parametrize(
    ("limits", "stops_at", "within"),
    [
        ({"stop_source": "/etc/c.toml: rich.stop-timeout"}, None, "30 s (/etc/c.toml: rich.stop-timeout)"),
        ({"grace_s": 20.0}, 7, "11 s (what was left of the pod's grace period, 20 s)"),
        ({"grace_s": 8.0}, 7, "0 s (what was left of the pod's grace period, 8 s)"),
        ({"stop_s": 0.0}, None, None),
    ],
)
@in_time
async def test_an_init_that_had_to_be_killed_is_told_of_and_counted(world, caplog, limits, stops_at, within):
    """Not where the node gives it no time at all."""
    one = await world.run("systemd", limits=limits, log=BundleLog(str(world.directory)))
    if stops_at:
        one.signal(signal.SIGTERM)
        await at(stops_at)
    await world.end()
    await at(60)
    assert world.signals[-1][1] == signal.SIGKILL
    text = f"systemd did not end within {within} and was killed"
    assert caplog.messages == ([f"container c: {text}"] if within else [])
    assert [line["text"] for line in bundle_log.read(str(world.directory))] == ([text] if within else [])
    assert world.counted == ([("init_kills", {"init": "systemd"})] if within else [])
    one.close()


@pytest.mark.parametrize(
    ("status", "more"), [(0, ""), (137, ": a client killed it, or the kernel did, for lack of memory, say")]
)
@in_time
async def test_a_pid_1_that_ends_under_its_application_is_told_of(world, caplog, status, more):
    one = await world.run(log=BundleLog(str(world.directory)))
    one.ended(Exit(INIT, status, 1))
    text = f"PID 1 (sysvinit) ended with {status} while the application ran{more}"
    assert caplog.messages == [f"container c: {text}"]
    assert one.shutdown.unusual == ("" if more else text)  # a pod that is removed by force needs no post-mortem
    assert [line["text"] for line in bundle_log.read(str(world.directory))] == [text]
    one.close()


@in_time
async def test_so_is_one_that_ends_long_after_a_signal_that_stopped_nothing(world):
    """For a rotation of logs, say."""
    one = await world.run()
    one.signal(signal.SIGHUP)
    await asyncio.sleep(600)
    one.ended(Exit(INIT, 139, 1))
    assert one.shutdown.unusual == "PID 1 (sysvinit) ended with 139 while the application ran"
    one.close()


@pytest.mark.parametrize("first", ["application", "stop", "own init"])
@in_time
async def test_a_pid_1_that_ends_as_it_should_is_not_told_of(world, caplog, first):
    one = world.make(launch=False) if first == "own init" else await world.run()
    if first == "own init":
        await one.ready()
    if first == "application":  # its end is known, and not heard of yet
        world.exits[-1].future.set_result(3)
    elif first == "stop":
        one.signal(signal.SIGTERM)
    one.ended(Exit(INIT, 137, 1))
    assert caplog.messages == []
    one.close()


@in_time
async def test_an_init_that_ends_in_time_is_neither_told_again_nor_killed(world):
    one = await world.run()
    await world.end()
    await at(2.5)
    exit = Exit(INIT, 0, 1)
    assert one.ended(exit) == exit
    await at(STOP_S + 5)
    assert world.signals == [(0.0, POWEROFF), (1.0, POWEROFF), (2.0, POWEROFF)]
    assert world.counted == []
    one.close()


@in_time
async def test_inits_shutdown_is_cut_to_what_is_left_of_the_pods_grace_period(world):
    one = await world.run("systemd", limits={"grace_s": 20.0})
    one.signal(signal.SIGTERM)
    await at(7)
    await world.end()
    await at(60)
    assert world.signals == [(0.0, "application", signal.SIGTERM), (7.0, POWEROFF), (20 - RESERVE_S, signal.SIGKILL)]
    one.close()


@in_time
async def test_the_grace_period_is_counted_from_the_first_signal(world):
    one = await world.run("systemd", limits={"grace_s": 20.0})
    one.signal(signal.SIGTERM)
    await at(7)
    one.signal(signal.SIGTERM)
    await world.end()
    await at(60)
    assert world.signals[-1] == (20 - RESERVE_S, signal.SIGKILL)
    one.close()


@in_time
async def test_a_grace_period_that_is_used_up_leaves_init_no_time(world):
    one = await world.run("systemd", limits={"grace_s": 10.0})
    one.signal(signal.SIGTERM)
    await at(9)
    await world.end()
    await at(60)
    assert world.signals[1:] == [(9.0, signal.SIGKILL)]
    one.close()


@in_time
async def test_without_a_stop_the_grace_period_cuts_nothing(world):
    one = await world.run("systemd", limits={"grace_s": 10.0})
    await at(5)
    await world.end()
    await at(60)
    assert world.signals == [(5.0, POWEROFF), (5 + STOP_S, signal.SIGKILL)]
    one.close()


@in_time
async def test_a_stop_timeout_within_the_grace_period_holds(world):
    one = await world.run("systemd", limits={"grace_s": 600.0})
    one.signal(signal.SIGTERM)
    await world.end()
    await at(60)
    assert world.signals[-1] == (STOP_S, signal.SIGKILL)
    one.close()


@in_time
async def test_an_application_that_failed_is_restarted_in_place(world):
    one = await world.run("systemd", limits={"restarts": True})
    await world.end(3)
    assert one._booting.patience[0].wait_s() <= RESTART_TIMEOUT_S
    one._booting.launchers.put_nowait(world.launcher())
    await settled()
    assert (len(world.exits), world.signals) == (2, [])
    assert one.restarts.count == 1
    one.signal(signal.SIGHUP)
    assert world.signals == [(0.0, "application", signal.SIGHUP)]
    await world.end(0)
    assert world.signals[1:] == [(0.0, POWEROFF)]
    assert one.ended(Exit(INIT, 137, 5)) == Exit(INIT, 0, 5)
    one.close()


@in_time
async def test_a_signal_that_was_none_to_stop_is_forgotten(world):
    """HUP, to have a log rotated, hours before the end: init has its time then, and restarts what fails."""
    one = await world.run("systemd", limits={"restarts": True, "grace_s": 30.0, "stop_s": 10.0})
    one.signal(signal.SIGHUP)
    await at(3600)
    await world.end(3)
    one._booting.launchers.put_nowait(world.launcher())
    await settled()
    assert one.restarts.count == 1
    one.signal(signal.SIGHUP)
    await at(7200)
    await world.end(0)
    assert world.signals[2:] == [(7200.0, POWEROFF)]
    await at(7209)
    assert len(world.signals) == 3, "nor is it killed before its time"
    one.close()


@in_time
async def test_a_signal_that_may_be_one_to_stop_is_for_its_grace_period(world):
    one = await world.run("systemd", limits={"restarts": True, "grace_s": 30.0})
    one.signal(signal.SIGWINCH)
    await at(29)
    await world.end(3)
    assert one._booting.patience == []
    one.close()


async def restarting(world):
    """An application that has been started as often as may be at once, and the launcher of the next start."""
    one = await world.run("systemd", limits={"restarts": True})
    for _ in range(START_LIMIT - 1):
        await world.end(3)
        one._booting.launchers.put_nowait(world.launcher())
        await settled()
    await world.end(3)
    launcher = world.launcher()
    one._booting.launchers.put_nowait(launcher)
    await settled()
    assert (len(world.exits), one.restarts.count) == (START_LIMIT, START_LIMIT - 1)
    return one, launcher


def is_closed(launcher):
    return launcher.connection.fileno() == -1


@in_time
async def test_an_application_that_fails_again_and_again_waits_for_its_next_start(world):
    one, launcher = await restarting(world)
    await at(START_LIMIT_S - 0.1)
    assert one.restarts.count == START_LIMIT - 1
    await at(START_LIMIT_S + 0.1)
    assert (one.restarts.count, world.signals) == (START_LIMIT, [])
    one.close()
    assert is_closed(launcher)


@in_time
async def test_a_stop_does_not_wait_for_the_next_start(world):
    one, launcher = await restarting(world)
    one.signal(signal.SIGTERM)
    await settled()
    assert (0.0, POWEROFF) in world.signals
    assert (is_closed(launcher), one.restarts.count) == (True, START_LIMIT - 1)
    one.close()


@in_time
async def test_a_stop_at_the_very_end_of_the_pause_is_not_lost(world):
    one, launcher = await restarting(world)
    asyncio.get_running_loop().call_at(START_LIMIT_S, one.signal, signal.SIGTERM)
    await at(START_LIMIT_S + 0.1)
    assert (START_LIMIT_S, POWEROFF) in world.signals
    assert (is_closed(launcher), one.restarts.count) == (True, START_LIMIT - 1)
    one.close()


@in_time
async def test_a_stop_by_a_signal_of_the_images_while_init_restarts_lets_one_more_start_through(world):
    one = await world.run("systemd", limits={"restarts": True, "grace_s": 30.0})
    await world.end(3)
    one.signal(signal.SIGWINCH)
    one._booting.launchers.put_nowait(world.launcher())
    await settled()
    assert one.restarts.count == 1
    await at(5)
    await world.end(3)
    assert (one.restarts.count, (5.0, POWEROFF) in world.signals) == (1, True)
    one.close()


@in_time
async def test_a_restart_that_a_shortage_keeps_from_beginning_ends_the_container(world, caplog):
    one = await world.run("systemd", limits={"restarts": True})

    def short():
        raise OSError(errno.EMFILE, "Too many open files")

    one._listen = short
    await world.end(3)
    assert (0.0, POWEROFF) in world.signals
    assert "container c: the application ended with 3 and was not restarted: too many open files" in caplog.text.lower()
    one.close()


@in_time
async def test_nor_does_inits_end(world):
    one, launcher = await restarting(world)
    assert one.ended(Exit(INIT, 137, 5)).status == 3
    await settled()
    assert is_closed(launcher)
    one.close()


@in_time
async def test_nor_is_anything_left_of_it_by_a_close(world):
    one, launcher = await restarting(world)
    one.close()
    await settled()
    assert is_closed(launcher)


@in_time
async def test_an_init_that_does_not_restart_it_is_shut_down(world, caplog):
    one = await world.run("systemd", limits={"restarts": True})
    await world.end(3)
    one._booting.launchers.put_nowait(None)
    await settled()
    assert world.signals == [(0.0, POWEROFF)]
    assert "the application ended with 3 and was not restarted: systemd did not start it again" in caplog.text
    assert one.ended(Exit(INIT, 0, 5)).status == 3
    one.close()


@in_time
async def test_an_init_that_restarts_nothing_is_not_waited_for(world):
    one = await world.run("sysvinit", limits={"restarts": True})
    await world.end(3)
    assert (world.signals, one._booting.patience) == ([(0.0, POWEROFF)], [])
    assert world.forgotten == [str(world.directory)]
    one.close()


@in_time
async def test_an_application_that_was_told_to_stop_is_not_waited_for_again(world, caplog):
    one = await world.run("systemd", limits={"restarts": True})
    one.signal(signal.SIGTERM)
    await world.end(3)
    assert world.signals == [(0.0, "application", signal.SIGTERM), (0.0, POWEROFF)]
    assert one._booting.patience == []
    assert caplog.text == ""
    one.close()


@in_time
async def test_a_restart_that_comes_after_the_stop_is_not_let_run_and_leaves_nothing_open(world):
    one = await world.run("systemd", limits={"restarts": True})
    await world.end(3)
    one.signal(signal.SIGTERM)
    late = world.launcher()
    one._booting.launchers.put_nowait(late)
    await settled()
    assert len(world.exits) == 1
    assert (0.0, POWEROFF) in world.signals
    assert late.connection.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(late.pidfd)
    one.close()


@in_time
async def test_the_streams_stay_for_an_application_that_is_restarted_and_end_with_the_last(world):
    reader, writer = os.pipe()
    world.stdio.fds = {1: writer}
    one = await world.run("systemd", limits={"restarts": True})
    for fd in world.received():
        os.close(fd)
    os.close(writer)
    world.stdio.fds = {}
    await world.end(3)
    one._booting.launchers.put_nowait(world.launcher())
    await settled()
    null, again, _ = fds = world.received()
    assert os.fstat(again).st_ino == os.fstat(reader).st_ino
    assert os.fstat(null).st_rdev == os.stat(os.devnull).st_rdev
    for fd in fds:
        os.close(fd)
    await world.end(0)
    assert os.read(reader, 1) == b""
    os.close(reader)
    one.close()


@in_time
async def test_settings_are_kept_for_a_restart_and_forgotten_where_there_is_none(world):
    for restarts in (True, False):
        one = await world.run("systemd", limits={"restarts": restarts})
        assert world.forgotten == ([] if restarts else [str(world.directory)])
        one.close()


@in_time
async def test_the_applications_user_gets_its_streams_and_no_device(world):
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_WRONLY)
    world.stdio.fds = {1: writer, 2: null}
    one = await world.run()
    assert world.given == [(writer, 1000, -1)]
    fds = world.received()
    assert [os.fstat(fd).st_ino for fd in fds[1:]] == [os.fstat(writer).st_ino, os.fstat(null).st_ino]
    for fd in (*fds, reader, writer, null):
        os.close(fd)
    one.close()


@in_time
async def test_a_stream_that_cannot_be_given_away_is_used_as_it_is(world, monkeypatch):
    reader, writer = os.pipe()
    world.stdio.fds = {1: writer}

    def refuse(fd, uid, gid):
        raise PermissionError

    monkeypatch.setattr(application.os, "fchown", refuse)
    one = await world.run()
    received = world.received()
    assert os.fstat(received[1]).st_ino == os.fstat(writer).st_ino
    for fd in (*received, reader, writer):
        os.close(fd)
    one.close()


@in_time
async def test_the_pods_stop_signal_stands_in_for_term_alone(world):
    one = await world.run(stop_signal=signal.SIGQUIT)
    for number in (signal.SIGTERM, signal.SIGHUP):
        one.signal(number)
    assert [what[2] for what in world.signals] == [signal.SIGQUIT, signal.SIGHUP]
    one.close()


@in_time
async def test_a_real_time_signal_at_which_the_images_init_halts_is_a_stop_like_term(world):
    one = await world.run("systemd", stop_signal=signal.SIGQUIT)
    for number in (37, 39):
        one.signal(number)
    assert [what[1:] for what in world.signals] == [("application", signal.SIGQUIT), ("application", 39)]
    one.close()


@in_time
async def test_a_signal_before_the_application_runs_calls_the_start_off_and_kills_init(world):
    one = world.make()
    one.signal(signal.SIGTERM)
    assert one._life.phase is AppPhase.CALLED_OFF
    assert world.signals == [(0.0, signal.SIGKILL)]
    one.close()


@in_time
async def test_an_init_without_an_application_gets_signals_in_its_own_language(world):
    one = world.make(launch=False)
    one._boot = Boot("systemd", POWEROFF, signals=((signal.SIGTERM, 37),))
    one.signal(signal.SIGTERM)
    one.signal(signal.SIGHUP)
    assert [number for _, number in world.signals] == [37, signal.SIGHUP]
    one.close()


@in_time
async def test_a_boot_that_fails_kills_init(world):
    one = world.make()

    async def fail(listener, cgroup):
        raise RuntimeFailed("no")

    one._booting.boot = fail
    with pytest.raises(RuntimeFailed):
        await one.ready()
    assert world.signals == [(0.0, signal.SIGKILL)]
    assert world.stdio.said == []
    one.close()


@in_time
async def test_what_is_mandatory_beside_an_init_that_is_the_command_fails_it_too(world):
    one = world.make(launch=False)

    async def fail():
        raise RuntimeFailed("no")

    one._booting.mandatory = fail
    with pytest.raises(RuntimeFailed):
        await one.ready()
    assert world.signals == [(0.0, signal.SIGKILL)]
    one.close()


@in_time
async def test_nothing_is_signalled_once_init_has_ended(world):
    one = await world.run()
    one.ended(Exit(INIT, 0, 1))
    one._kill_init()
    assert world.signals == []
    one.close()


@in_time
async def test_streams_that_no_application_got_are_ended_for_the_client(world):
    one = world.make()
    one.ended(Exit(INIT, 1, 1))
    assert world.stdio.said == ["discard"]
    one.close()


@in_time
async def test_what_an_init_with_the_containers_streams_said_last_is_kept(world):
    one = world.make("busybox", launch=False, streams=True)
    one.ended(Exit(INIT, 1, 5))
    assert world.stdio.said == []
    one.close()


@in_time
async def test_streams_that_an_application_has_are_left_to_it(world):
    one = await world.run()
    one.ended(Exit(INIT, 1, 1))
    assert world.stdio.said == ["attach"]
    one.close()


@in_time
async def test_a_task_ends_as_its_application_did_and_when_init_did(world):
    one = await world.run()
    await world.end(7)
    assert one.ended(Exit(INIT, 0, 5)) == Exit(INIT, 7, 5)
    one.close()


@in_time
async def test_an_application_that_was_killed_with_its_init_counts_as_killed(world):
    one = await world.run()
    assert one.ended(Exit(INIT, 0, 5)) == Exit(INIT, 137, 5)
    one.close()


@in_time
async def test_nothing_goes_on_after_the_close(world):
    one = await world.run()
    await world.end()
    await at(3.5)
    following = one._following
    said = len(world.signals)
    one.close()
    one.close()
    await at(60)
    assert following.cancelled()
    assert len(world.signals) == said
