import asyncio

import pytest

from runtime.agents.process import Supervised
from runtime.errors import FailedPrecondition, NotFound, RuntimeFailed
from shim.task.reaper import Exit
from shim.task.rich.agents import Clock, Supervisor
from tests.fakes.loop import in_loop, until


class Runtime:
    """Starts agents by writing down that it did; a test ends them."""

    def __init__(self):
        self.ends, self.started, self.pid, self.broken = [], [], 100, False
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, agent, output, ended):
        await self.gate.wait()
        if self.broken:
            raise RuntimeFailed("OCI runtime exec failed: no such file")
        self.pid += 1
        self.ends.append(ended)
        self.started.append(agent)
        return self.pid

    def end(self, status=0):
        self.ends[-1](Exit(self.pid, status, 0))


class Time:
    """A clock that only a sleep moves on, at once."""

    def __init__(self):
        self.at, self.slept = 0.0, []

    def clock(self):
        return Clock(now=lambda: self.at, sleep=self.sleep)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.at += seconds


def supervise(*agents, restart="always", mandatory=()):
    runtime, time = Runtime(), Time()
    names = agents or ("probe",)
    given = [
        Supervised(name, {"user": {"uid": 0, "gid": 0}}, restart, mandatory=name in mandatory or mandatory == "all")
        for name in names
    ]
    return Supervisor("c1", given, runtime, clock=time.clock()), runtime, time


def only(supervisor):
    (state,) = supervisor.states()
    return state


@in_loop
async def test_an_agent_is_started_with_the_container_and_not_before():
    supervisor, runtime, _ = supervise()
    await asyncio.sleep(0)
    assert (runtime.ends, only(supervisor).state) == ([], "waiting")
    supervisor.start()
    await until(lambda: runtime.ends)
    assert only(supervisor).state == "running"
    assert only(supervisor).pid == 101
    assert only(supervisor).restarts == 0
    await supervisor.stop()


@in_loop
async def test_an_agent_that_keeps_ending_is_restarted_later_and_later_up_to_a_minute():
    supervisor, runtime, time = supervise()
    supervisor.start()
    for count in range(9):
        await until(lambda count=count: len(runtime.ends) == count + 1)
        runtime.end(status=1)
    await until(lambda: only(supervisor).restarts == 9)
    assert time.slept == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert only(supervisor).status == 1
    await supervisor.stop()


@in_loop
async def test_an_agent_that_lived_a_minute_starts_anew_with_a_second():
    supervisor, runtime, time = supervise()
    supervisor.start()
    for count, life in enumerate((0, 0, 61)):
        await until(lambda count=count: len(runtime.ends) == count + 1)
        time.at += life
        runtime.end(status=1)
    await until(lambda: len(runtime.ends) == 4)
    assert time.slept == [1, 2, 1]
    await supervisor.stop()


@pytest.mark.parametrize(
    ("restart", "status", "restarted"),
    [("always", 0, True), ("on-failure", 0, False), ("on-failure", 137, True), ("no", 1, False)],
)
def test_an_agent_is_restarted_as_its_policy_says(restart, status, restarted):
    @in_loop
    async def run():
        supervisor, runtime, _ = supervise(restart=restart)
        supervisor.start()
        await until(lambda: runtime.ends)
        runtime.end(status)
        await until(lambda: len(runtime.ends) == 2 if restarted else only(supervisor).state == "ended")
        assert only(supervisor).restarts == int(restarted)
        await supervisor.stop()

    run()


@in_loop
async def test_an_agent_that_cannot_be_started_is_tried_again_and_hurts_no_other():
    supervisor, runtime, time = supervise("a", "b")
    runtime.broken = True
    supervisor.start()
    await until(lambda: len(time.slept) >= 4)
    runtime.broken = False
    await until(lambda: len(runtime.ends) == 2)
    await until(lambda: {one.state for one in supervisor.states()} == {"running"})
    await supervisor.stop()


@in_loop
async def test_none_is_started_while_the_container_is_paused():
    supervisor, runtime, time = supervise()
    supervisor.start()
    await until(lambda: runtime.ends)
    supervisor.pause()
    runtime.end()
    await until(lambda: time.slept)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (len(runtime.ends), only(supervisor).state) == (1, "waiting")
    supervisor.resume()
    await until(lambda: len(runtime.ends) == 2)
    await supervisor.stop()


@in_loop
async def test_after_the_containers_end_none_is_started_again():
    supervisor, runtime, _ = supervise()
    supervisor.start()
    await until(lambda: runtime.ends)
    await supervisor.stop()
    runtime.end(137)
    supervisor.start()
    await asyncio.sleep(0)
    assert (len(runtime.ends), only(supervisor).state) == (1, "ended")


@in_loop
async def test_stop_waits_for_an_exec_that_is_under_way():
    supervisor, runtime, _ = supervise()
    runtime.gate.clear()
    supervisor.start()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(supervisor.stop())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not stopping.done()
    runtime.gate.set()
    await stopping
    assert len(runtime.ends) == 1


@in_loop
async def test_a_container_without_agents_has_nothing_to_stop():
    supervisor = Supervisor("c1", [], Runtime())
    supervisor.start()
    await supervisor.stop()
    assert supervisor.states() == []


@in_loop
async def test_mandatory_agents_are_started_first_and_the_others_with_the_container():
    supervisor, runtime, _ = supervise("a", "b", mandatory=("b",))
    await supervisor.start_mandatory()
    assert [one.state for one in supervisor.states()] == ["waiting", "running"]
    supervisor.start()
    await until(lambda: len(runtime.ends) == 2)
    assert [one.restarts for one in supervisor.states()] == [0, 0]
    await supervisor.stop()


@in_loop
async def test_a_mandatory_agent_that_cannot_be_started_says_why_and_none_is_started_again():
    supervisor, runtime, _ = supervise(mandatory="all")
    runtime.broken = True
    with pytest.raises(RuntimeFailed, match="mandatory agent probe: OCI runtime exec failed: no such file"):
        await supervisor.start_mandatory()
    runtime.broken = False
    with pytest.raises(RuntimeFailed, match="mandatory agent probe: an earlier start has failed"):
        await supervisor.start_mandatory()
    assert runtime.ends == []


@pytest.mark.parametrize(
    ("restart", "status", "runs"),
    [("always", 0, False), ("on-failure", 0, True), ("on-failure", 1, False), ("no", 1, True)],
)
def test_a_mandatory_agent_that_ends_at_once_runs_only_if_that_is_its_end(restart, status, runs):
    @in_loop
    async def run():
        slept, runtime = asyncio.Event(), Runtime()

        async def sleep(seconds):
            slept.set()
            await asyncio.Event().wait()

        agent = Supervised("probe", {"user": {"uid": 0, "gid": 0}}, restart, mandatory=True)
        supervisor = Supervisor("c1", [agent], runtime, clock=Clock(sleep=sleep))
        starting = asyncio.ensure_future(supervisor.start_mandatory())
        await slept.wait()
        runtime.end(status)
        if runs:
            await starting
        else:
            with pytest.raises(RuntimeFailed, match=f"mandatory agent probe ended with status {status}"):
                await starting
        await supervisor.stop()

    run()


def another(name="probe", *, args=("/new",), restart="always"):
    return Supervised(name, {"user": {"uid": 0, "gid": 0}, "args": list(args)}, restart)


@pytest.fixture
def ends(monkeypatch):
    """Ends a process when it is asked to: what a test has is no process."""

    async def end(pid, ended):
        ended.set_result(Exit(pid, 143, 0))

    monkeypatch.setattr("shim.task.rich.agents.end_process", end)


@in_loop
async def test_an_agent_that_runs_is_ended_and_started_as_another(ends):
    supervisor, runtime, time = supervise()
    supervisor.start()
    await until(lambda: runtime.ends)
    assert await supervisor.replace(another(), settled_s=2) == 102
    assert runtime.started[-1].process["args"] == ["/new"]
    assert time.slept == [2]  # not the second before a restart
    assert (only(supervisor).state, only(supervisor).restarts) == ("running", 0)
    runtime.end(1)
    await until(lambda: len(runtime.ends) == 3)
    assert runtime.started[-1].process["args"] == ["/new"]
    await supervisor.stop()


@in_loop
async def test_an_agent_that_runs_once_is_replaced_while_it_does(ends):
    supervisor, runtime, _ = supervise(restart="no")
    supervisor.start()
    await until(lambda: runtime.ends)
    assert await supervisor.replace(another(restart="no"), settled_s=2) == 102
    assert (only(supervisor).state, runtime.started[-1].process["args"]) == ("running", ["/new"])
    await supervisor.stop()


@in_loop
async def test_an_agent_that_waits_for_a_restart_is_replaced_at_once(ends):
    supervisor, runtime, time = supervise()
    waits = asyncio.Event()

    async def sleep(seconds):
        time.slept.append(seconds)
        await (asyncio.sleep(0) if seconds == 2 else waits.wait())

    supervisor._clock = Clock(now=lambda: 0.0, sleep=sleep)
    supervisor.start()
    await until(lambda: runtime.ends)
    runtime.end(1)
    await until(lambda: time.slept)
    assert await supervisor.replace(another(), settled_s=2) == 102
    await supervisor.stop()


@in_loop
async def test_an_agent_that_has_ended_for_good_is_replaced(ends):
    supervisor, runtime, _ = supervise(restart="no")
    supervisor.start()
    await until(lambda: runtime.ends)
    runtime.end(0)
    await until(lambda: only(supervisor).state == "ended")
    assert await supervisor.replace(another(), settled_s=2) == 102
    assert only(supervisor).state == "running"
    await supervisor.stop()


@in_loop
async def test_an_agent_that_is_being_started_is_replaced_once_it_was(ends):
    supervisor, runtime, _ = supervise()
    runtime.gate.clear()
    supervisor.start()
    replacing = asyncio.ensure_future(supervisor.replace(another(), settled_s=2))
    await asyncio.sleep(0)
    assert not runtime.ends
    runtime.gate.set()
    assert await replacing == 102
    assert [one.process.get("args") for one in runtime.started] == [None, ["/new"]]
    await supervisor.stop()


@in_loop
async def test_an_agent_that_does_not_live_long_enough_is_told_and_kept_as_its_policy_says(ends):
    supervisor, runtime, _ = supervise()
    supervisor.start()
    await until(lambda: runtime.ends)
    settling = asyncio.Event()
    supervisor._clock = Clock(now=lambda: 0.0, sleep=lambda seconds: settling.wait())
    replacing = asyncio.ensure_future(supervisor.replace(another(), settled_s=2))
    await until(lambda: len(runtime.ends) == 2)
    runtime.end(7)
    with pytest.raises(RuntimeFailed, match=r"^agent probe ended with status 7$"):
        await replacing
    settling.set()
    await until(lambda: len(runtime.ends) == 3)
    await supervisor.stop()


@in_loop
async def test_an_agent_that_cannot_be_started_is_told(ends):
    supervisor, runtime, _ = supervise()
    supervisor.start()
    await until(lambda: runtime.ends)
    runtime.broken = True
    with pytest.raises(RuntimeFailed, match=r"^agent probe: OCI runtime exec failed"):
        await supervisor.replace(another(), settled_s=2)
    await supervisor.stop()


@in_loop
async def test_none_is_replaced_that_is_not_there_or_while_the_container_is_frozen_or_ends(ends):
    supervisor, runtime, _ = supervise()
    with pytest.raises(FailedPrecondition, match="is frozen"):  # or has not started
        await supervisor.replace(another(), settled_s=2)
    supervisor.start()
    await until(lambda: runtime.ends)
    with pytest.raises(NotFound, match="agent other"):
        await supervisor.replace(another("other"), settled_s=2)
    supervisor.pause()
    with pytest.raises(FailedPrecondition, match="is frozen"):
        await supervisor.replace(another(), settled_s=2)
    supervisor.resume()
    forever = asyncio.Event()
    supervisor._clock = Clock(now=lambda: 0.0, sleep=lambda seconds: forever.wait())
    runtime.gate.clear()
    replacing = asyncio.ensure_future(supervisor.replace(another(), settled_s=2))
    await asyncio.sleep(0)
    stopping = asyncio.ensure_future(supervisor.stop())
    await asyncio.sleep(0)
    runtime.gate.set()
    await stopping
    with pytest.raises(FailedPrecondition, match="the container is ending"):
        await replacing
