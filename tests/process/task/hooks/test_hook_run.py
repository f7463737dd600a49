"""shim.task.hooks.hook_run: a hook's end in each of its places, whoever does not keep to theirs."""

import asyncio
import errno
import os
import signal

import pytest

from runtime.linux import selinux
from runtime.oci.cli import OCIRuntime, input_file
from shim.task import leftovers
from shim.task.hooks import hook_run
from shim.task.hooks.hook_run import (
    CLEAR_TIMEOUT_S,
    DELETE_TIMEOUT_S,
    SUPERVISOR_GRACE_S,
    Capture,
    PoststopContainer,
    PrestartExec,
)
from shim.task.reaper import Exit
from shim.task.report import reading
from tests.fakes.clock import in_time, now, settled
from tests.fakes.loop import in_loop, open_fds
from tests.fakes.processes import NotedReaper
from tests.fakes.runtime import BINARY, NOT_THERE, StrictRuntime


def test_a_label_that_cannot_be_given_leaves_no_file_open(monkeypatch):
    def refuse(file, label):
        raise OSError(22, f"no label {label} for {file}")

    monkeypatch.setattr(selinux, "label_file", refuse)
    before = open_fds()
    with pytest.raises(OSError, match="no label x"), input_file("state", b"{}", label="x"):
        pytest.fail("it took the label")
    assert open_fds() == before


@in_loop
async def test_a_hook_that_prints_without_an_end_takes_its_share_of_the_event_loop_and_no_more(monkeypatch):
    monkeypatch.setattr(reading, "BURST_S", -1.0)  # its share of the next ten seconds is spent
    with Capture() as output:
        os.write(output.writer, b"one")
        await asyncio.sleep(0.05)
        assert output.tail.text() == "one"
        os.write(output.writer, b"two")
        await asyncio.sleep(0.05)
        assert output.tail.text() == "one"
    assert output.tail.text() == "onetwo"


@pytest.fixture
def signals(monkeypatch):
    """(time, number) of each signal to a supervisor; `signals.ended` is its end, which only KILL brings."""

    class Signals(list):
        ended = None

    found = Signals()

    def kill(pid, number):
        assert pid == NOT_THERE
        found.append((now(), number))
        if number == signal.SIGKILL:
            found.ended.set_result(Exit(pid, 137, 1))

    monkeypatch.setattr(hook_run.os, "kill", kill)
    return found


@in_time
async def test_a_supervisor_that_does_not_keep_the_time_is_killed(signals):
    signals.ended = asyncio.get_running_loop().create_future()
    assert await hook_run._wait_for_supervisor(NOT_THERE, signals.ended, 7.0)
    assert signals == [(7 + SUPERVISOR_GRACE_S, signal.SIGKILL)]


@in_time
async def test_a_supervisor_is_asked_to_end_its_hook_and_killed_where_it_does_not(signals):
    signals.ended = asyncio.get_running_loop().create_future()
    keeping = asyncio.ensure_future(hook_run._wait_for_supervisor(NOT_THERE, signals.ended, 60.0))
    await asyncio.sleep(2)
    keeping.cancel()
    await asyncio.wait([keeping])
    assert keeping.cancelled()
    assert signals == [(2.0, signal.SIGTERM), (2 + SUPERVISOR_GRACE_S, signal.SIGKILL)]


@in_time
async def test_a_supervisor_that_has_ended_gets_no_signal(signals):
    signals.ended = asyncio.get_running_loop().create_future()
    signals.ended.set_result(Exit(NOT_THERE, 0, 1))
    assert not await hook_run._wait_for_supervisor(NOT_THERE, signals.ended, 7.0)
    assert signals == []


class World:
    """An OCI runtime, a reaper, and a container with processes besides init: `left` is how many at each look."""

    def __init__(self, directory, monkeypatch):
        self.bundle = str(directory / "bundle")
        self.runtime = StrictRuntime()
        self.reaper = NotedReaper()
        self.removed = []
        self.left = []
        monkeypatch.setattr(hook_run.others, "kill_others", self._kill_others)
        monkeypatch.setattr(hook_run, "in_thread", self._inline)
        monkeypatch.setattr(leftovers, "remove", self._removed)

    async def _removed(self, *about):
        self.removed.append(about)

    async def _inline(self, call):
        return call()

    def _kill_others(self, init, cgroup):
        return self.left.pop(0) if self.left else 0

    def oci(self):
        return OCIRuntime(BINARY, self.runtime)

    def begin_in_created(self, timeout_s=60.0):
        self.runtime.containers["c"] = "created"
        created = PrestartExec(self.reaper, self.oci(), "c", self.bundle, 1, None)
        return asyncio.ensure_future(created.run({"args": ["x"]}, stdin=b"{}", owner=0, timeout_s=timeout_s))

    def second(self):
        return PoststopContainer(self.reaper, self.oci(), "c-poststop-0", self.bundle)

    def begin_in_second(self, timeout_s=60.0):
        running = self.second().run({"process": {"args": ["x"]}}, stdin=b"{}", owner=0, timeout_s=timeout_s)
        return asyncio.ensure_future(running)


@pytest.fixture
def world(tmp_path, monkeypatch):
    (tmp_path / "bundle").mkdir()
    return World(tmp_path, monkeypatch)


@in_time
async def test_a_prestart_hooks_status_is_its_result_and_init_is_alone_afterwards(world):
    running = world.begin_in_created()
    await settled()
    world.left = [3, 1, 0]
    world.reaper.end(NOT_THERE, 4)
    outcome = await running
    assert (outcome.ok, outcome.result, world.left) == (False, "exit status 4", [])


@in_time
async def test_a_prestart_hook_that_takes_too_long_is_cleared_away(world):
    running = world.begin_in_created(timeout_s=5.0)
    world.left = [1, 1, 0]
    assert (await running).result == "timed out after 5s"
    assert world.left == []


@in_time
async def test_what_an_exec_is_about_to_make_is_waited_for_to_be_cleared_away(world):
    world.runtime.gates["exec"] = asyncio.Event()
    running = world.begin_in_created()
    await settled()
    running.cancel()
    await settled()
    assert not running.done()
    world.runtime.gates["exec"].set()
    await asyncio.wait([running])
    assert running.cancelled()
    assert now() < 1


@in_time
async def test_processes_that_do_not_die_hold_a_start_up_for_a_while_only(world, caplog):
    running = world.begin_in_created()
    await settled()
    world.left = [1] * 10_000
    world.reaper.end(NOT_THERE)
    await running
    assert now() == pytest.approx(CLEAR_TIMEOUT_S, abs=0.1)
    assert "cannot be killed" in caplog.text


@in_time
async def test_a_hooks_own_container_is_run_deleted_and_removed(world, tmp_path):
    running = world.begin_in_second()
    await settled()
    assert world.runtime.calls == ["create", "start"]
    world.reaper.end(NOT_THERE, 0)
    assert (await running).ok
    assert world.runtime.calls == ["create", "start", "delete --force"]
    assert world.removed == [(world.bundle, "c-poststop-0")]
    assert not (tmp_path / "bundle").exists()


@in_time
async def test_a_hooks_own_container_that_takes_too_long_is_killed_by_its_delete_and_awaited(world):
    world.runtime.before["delete"] = lambda: world.reaper.end(NOT_THERE, 137)
    assert (await world.begin_in_second(timeout_s=5.0)).result == "timed out after 5s"
    assert (now(), world.runtime.containers) == (5.0, {})


@in_time
async def test_a_hook_whose_container_could_not_even_be_made_was_not_started(world):
    """It then stays owed. That happens with too many open descriptors, or without a process or memory left."""

    def fail():
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    world.runtime.before["create"] = fail
    outcome = await world.begin_in_second()
    assert (outcome.ok, outcome.result, outcome.started) == (False, "Bad file descriptor", False)
    assert world.removed
    world.runtime.before.clear()
    world.runtime.answers["create"] = ["no such image"]
    assert (await world.begin_in_second()).started


@in_time
async def test_a_runtime_that_does_not_delete_is_left_to_itself(world, caplog):
    world.runtime.gates["delete"] = asyncio.Event()
    running = world.begin_in_second()
    await settled()
    world.reaper.end(NOT_THERE, 0)
    assert (await running).ok
    assert now() == DELETE_TIMEOUT_S
    assert "not deleted within 10s" in caplog.text
    assert world.removed


@in_time
async def test_what_a_killed_pod_server_left_of_a_hooks_container_is_ended_and_deleted(world, monkeypatch, tmp_path):
    ended = []
    monkeypatch.setattr(hook_run.interrupted, "wait_for_creates", lambda bundle, *, patience_s: ended.append(bundle))
    await world.second().forget_interrupted()
    assert ended == [world.bundle]
    assert world.runtime.calls == ["delete --force"]
    assert world.removed == [(world.bundle, "c-poststop-0")]
    assert not (tmp_path / "bundle").exists()
