"""shim.task.container over a strict OCI runtime: the order of an end, and what a request that fails leaves."""

import asyncio
import signal
from functools import partial

import pytest

from protos.gen import events_pb2
from runtime.bundle import Bundle
from runtime.errors import FailedPrecondition, NotFound, RuntimeFailed
from runtime.oci.cli import OCIRuntime
from shim.task.container import container as container_module
from shim.task.container.container import SETTLE_TIMEOUT_S, Container
from shim.task.container.lifecycle import PlainLifecycle
from shim.task.container.phase import Phase
from shim.task.container.process import Process
from shim.task.reaper import Exit
from shim.task.stdio.stdio import Owner, StdioPaths
from tests.fakes.clock import in_time, now, settled
from tests.fakes.processes import NotedReaper
from tests.fakes.runtime import BINARY, NOT_THERE, StrictRuntime
from tests.fakes.streams import NotedStdio


class Life(PlainLifecycle):
    """Notes what it is asked; `fails[what]` is raised then."""

    def __init__(self, say):
        self._say = say

    async def before_start(self):
        self._say("life.before_start")

    async def ready(self):
        self._say("life.ready")

    def started(self):
        self._say("life.started")

    def start_failed(self):
        self._say("life.start_failed")

    async def wait_for_starts(self):
        self._say("life.wait_for_starts")

    def set_paused(self, now):
        self._say(f"life.paused {now}")

    def signal(self, number):
        self._say(f"life.signal {number}")
        return {signal.SIGHUP: 0, signal.SIGTERM: signal.SIGINT}.get(number, number)

    async def after_end(self, exit, *, oom_killed):
        self._say("life.after_end" + (" oom" if oom_killed else ""))

    async def close(self):
        self._say("life.close")


class Oom:
    """Stands for OOMReports: the kernel's report is there when it is asked for the last time."""

    def __init__(self, cgroup, report, *, said):
        self.is_recent = False
        self._report = report
        self._said = said

    async def wait_delivered(self):
        self._said.append("oom told")

    def drain(self):
        self.is_recent = True
        self._report()

    def close(self):
        pass


class World:
    """A container whose Create was told of, and in `said` what happened."""

    def __init__(self, directory, monkeypatch):
        self.bundle = Bundle(str(directory))
        (directory / "config.json").write_text("{}")
        self.said = []
        self.fails = {}
        self.runtime = StrictRuntime()
        for command in ("start", "kill", "pause", "resume", "delete", "update"):
            self.runtime.before[command] = lambda command=command: self.say(f"runtime.{command}")
        self.reaper = NotedReaper()
        self.stdio = NotedStdio(self.say)
        self.killed = []
        monkeypatch.setattr(container_module.cgroups, "locate", lambda pid, mounts: None)
        monkeypatch.setattr(container_module, "OOMReports", partial(Oom, said=self.said))
        monkeypatch.setattr(container_module.os, "kill", lambda *about: self.killed.append(about))
        monkeypatch.setattr(container_module, "in_thread", self._removed)

    async def _removed(self, call):
        self.say("remains")

    def say(self, what):
        self.said.append(what)
        if what in self.fails:
            raise self.fails.pop(what)

    def make(self, *, private_pids=True):
        """Created, as far as the OCI runtime is concerned."""
        self.runtime.containers["c"] = "created"
        container = Container(
            "c",
            "ns",
            self.bundle,
            Process("", StdioPaths(), self.stdio),
            oci=OCIRuntime(BINARY, self.runtime),
            reaper=self.reaper,
            publish=lambda event: self.say(type(event).__name__),
            owner=Owner(),
            private_pids=private_pids,
            life=Life(self.say),
        )
        with self.reaper.expecting():
            container.adopt(NOT_THERE)
        return container

    async def run(self, **how):
        container = self.make(**how)
        container.announce(events_pb2.TaskCreate(container_id="c"))
        assert await container.start() == NOT_THERE
        self.said.clear()
        return container

    async def end(self, status=0):
        self.reaper.end(NOT_THERE, status)
        await settled()


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


END = ["TaskOOM", "life.after_end oom", "oom told", "TaskExit"]


@in_time
async def test_an_end_that_comes_before_create_is_told_of_is_told_of_after_it(world):
    container = world.make()
    await world.end(3)
    assert world.said == []
    container.announce(events_pb2.TaskCreate(container_id="c"))
    await settled()
    assert world.said == ["TaskCreate", *END]
    assert (await container.init.wait()).status == 3


@in_time
async def test_an_end_during_start_is_told_of_after_it(world):
    container = world.make()
    container.announce(events_pb2.TaskCreate(container_id="c"))
    world.runtime.before["start"] = lambda: world.reaper.end(NOT_THERE, 4)
    await container.start()
    await settled()
    assert world.said[1:] == ["life.before_start", "life.ready", "TaskStart", "life.started", *END]


@in_time
async def test_an_end_during_a_start_that_fails_is_told_of_and_lets_waiters_go(world):
    container = world.make()
    container.announce(events_pb2.TaskCreate(container_id="c"))
    world.runtime.before["start"] = lambda: world.reaper.end(NOT_THERE, 4)
    world.runtime.answers["start"] = ["no such program"]
    with pytest.raises(RuntimeFailed, match="no such program"):
        await container.start()
    assert (await container.init.wait()).status == 4
    assert world.said[1:] == ["life.before_start", "life.start_failed", *END]


@in_time
async def test_a_start_that_fails_may_be_tried_again(world):
    container = world.make()
    world.runtime.answers["start"] = ["busy"]
    with pytest.raises(RuntimeFailed, match="busy"):
        await container.start()
    assert container.init.phase is Phase.CREATED
    assert await container.start() == NOT_THERE


@in_time
async def test_waiters_are_let_go_once_the_exit_is_on_its_way(world):
    container = await world.run()
    waiting = asyncio.ensure_future(container.init.wait())
    seen = []
    container._publish = lambda event: seen.append((type(event).__name__, container.init.waits_released))
    await world.end()
    assert ("TaskExit", False) in seen
    assert (await waiting).status == 0


@in_time
async def test_inits_exit_waits_for_an_exec_that_lives(world):
    container = await world.run()
    busy = [True]
    container.execs.busy = lambda: busy[0]
    await world.end()
    assert world.said == []
    busy[0] = False
    container._settle()
    await settled()
    assert world.said == END


@in_time
async def test_an_exec_that_cannot_die_does_not_hold_a_delete_up_for_ever(world):
    container = await world.run()
    container.execs.busy = lambda: True
    await world.end(2)
    assert (await container.delete()).status == 2
    assert now() == SETTLE_TIMEOUT_S
    assert world.said == [*END, "stdio.drain", "runtime.delete", "stdio.close", "life.close", "remains", "TaskDelete"]


@in_time
async def test_a_delete_that_failed_may_be_tried_again(world):
    container = await world.run()
    await world.end(2)
    world.runtime.answers["delete"] = ["device busy"]
    with pytest.raises(RuntimeFailed, match="device busy"):
        await container.delete()
    assert (await container.delete()).status == 2
    assert world.runtime.calls[-2:] == ["delete", "delete"]


@in_time
async def test_a_caller_that_gives_a_delete_up_does_not_undo_it(world):
    container = await world.run()
    await world.end(2)
    world.runtime.gates["delete"] = asyncio.Event()
    first = asyncio.ensure_future(container.delete())
    second = asyncio.ensure_future(container.delete())
    await settled()
    first.cancel()
    await settled()
    world.runtime.gates["delete"].set()
    assert (await second).status == 2
    assert world.runtime.calls.count("delete") == 1
    assert container.init.phase is Phase.DELETED


@in_time
async def test_a_created_container_is_not_started_while_it_is_deleted(world):
    container = world.make()
    world.runtime.gates["delete"] = asyncio.Event()
    world.runtime.before["delete"] = lambda: world.reaper.end(NOT_THERE, 137)
    deleting = asyncio.ensure_future(container.delete())
    await settled()
    with pytest.raises(FailedPrecondition, match="cannot start a deleted process"):
        await container.start()
    world.runtime.gates["delete"].set()
    await deleting
    assert world.runtime.calls == ["delete --force"]
    assert container.init.phase is Phase.DELETED


@in_time
async def test_a_running_container_is_not_deleted(world):
    container = await world.run()
    with pytest.raises(FailedPrecondition, match="cannot delete a running process"):
        await container.delete()
    assert world.said == []


@in_time
async def test_a_created_container_is_killed_by_its_delete_and_its_exit_goes_before(world):
    container = world.make()
    container.announce(events_pb2.TaskCreate(container_id="c"))
    world.runtime.before["delete"] = lambda: world.reaper.end(NOT_THERE, 137)
    assert (await container.delete()).status == 137
    assert world.runtime.calls == ["delete --force"]
    assert [what for what in world.said if what.startswith("Task")] == [
        "TaskCreate",
        "TaskOOM",
        "TaskExit",
        "TaskDelete",
    ]


@in_time
async def test_of_a_container_whose_create_failed_nobody_hears(world):
    world.make().abandon()
    assert world.reaper.forgotten == [NOT_THERE]
    assert world.said == []


@in_time
async def test_a_pause_that_fails_leaves_the_agents_running(world):
    container = await world.run()
    world.runtime.answers["pause"] = ["cannot"]
    with pytest.raises(RuntimeFailed, match="cannot"):
        await container.freezer.pause()
    assert container.init.phase is Phase.RUNNING
    assert world.said == ["life.paused True", "life.wait_for_starts", "runtime.pause", "life.paused False"]


@in_time
async def test_a_pause_and_a_resume_are_told_to_agents_and_to_containerd_in_order(world):
    container = await world.run()
    await container.freezer.pause()
    assert world.said == ["life.paused True", "life.wait_for_starts", "runtime.pause", "TaskPaused"]
    world.said.clear()
    await container.freezer.resume()
    assert container.init.phase is Phase.RUNNING
    assert world.said == ["runtime.resume", "life.paused False", "TaskResumed"]


@in_time
async def test_a_pause_waits_for_an_exec_that_is_being_started_which_would_freeze_with_the_rest(world):
    container = await world.run()
    world.runtime.pid += 1  # init has the first
    world.runtime.gates["exec"] = asyncio.Event()
    container.execs.add("e", StdioPaths(), {"args": ["x"]})
    container.execs.add("late", StdioPaths(), {"args": ["x"]})
    starting = asyncio.ensure_future(container.execs.start("e"))
    await settled()
    pausing = asyncio.ensure_future(container.freezer.pause())
    await settled()
    assert "pause" not in world.runtime.calls
    with pytest.raises(FailedPrecondition, match="cannot start an exec in a pausing state"):
        await container.execs.start("late")
    world.runtime.gates["exec"].set()
    await asyncio.gather(starting, pausing)
    assert container.init.phase is Phase.PAUSED
    with pytest.raises(FailedPrecondition, match="cannot start an exec in a paused state"):
        await container.execs.start("late")
    await container.freezer.resume()
    world.runtime.pid += 1
    assert await container.execs.start("late") == world.runtime.pid


@in_time
async def test_a_paused_container_can_be_killed(world):
    container = await world.run()
    await container.freezer.pause()
    await container.kill("", signal.SIGKILL, everyone=False)
    assert world.killed == [(NOT_THERE, signal.SIGKILL)]
    assert world.runtime.containers == {"c": "running"}
    await container.kill("", signal.SIGTERM, everyone=False)
    assert world.runtime.calls.count("resume") == 1


@in_time
async def test_a_paused_container_stays_so_when_an_exec_is_killed(world):
    """As by a client's time-out: a checkpoint is being written, and State says that it is paused."""
    container = await world.run()
    world.runtime.pid += 1  # init has the first
    container.execs.add("e", StdioPaths(), {"args": ["x"]})
    await container.execs.start("e")
    await container.freezer.pause()
    await container.kill("e", signal.SIGKILL, everyone=False)
    assert world.killed[-1][1] == signal.SIGKILL
    assert (world.runtime.containers, container.init.phase) == ({"c": "paused"}, Phase.PAUSED)


@in_time
async def test_the_rest_of_a_container_that_ends_frozen_is_thawed_to_die(world):
    container = await world.run(private_pids=False)
    await container.freezer.pause()
    world.said.clear()
    await world.end()
    assert world.said == ["runtime.kill", "runtime.resume", *END]
    assert container.init.phase is Phase.STOPPED


@in_time
async def test_everyone_is_killed_by_the_kernel_where_init_has_a_pid_namespace_and_by_the_runtime_where_not(world):
    container = await world.run()
    await container.kill("", signal.SIGKILL, everyone=True)
    assert (world.killed, world.said) == ([(NOT_THERE, signal.SIGKILL)], [])
    container._private_pids = False
    await container.kill("", signal.SIGKILL, everyone=True)
    assert world.said == ["runtime.kill"]


@in_time
async def test_a_signal_is_the_lifes_to_take_but_for_kill(world):
    container = await world.run()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
        await container.kill("", number, everyone=False)
    assert world.said == [f"life.signal {number}" for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM)]
    assert world.killed == [(NOT_THERE, number) for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGKILL)]


@in_time
async def test_nothing_is_signalled_that_has_ended(world):
    container = await world.run()
    await world.end()
    with pytest.raises(NotFound, match="process already finished"):
        await container.kill("", signal.SIGTERM, everyone=False)
    assert world.killed == []


@in_time
async def test_a_container_that_has_ended_takes_no_limits(world):
    container = await world.run()
    await world.end()
    with pytest.raises(FailedPrecondition, match="cannot update a stopped container"):
        await container.update({})
    assert container.init.exit == Exit(NOT_THERE, 0, 1_000)
