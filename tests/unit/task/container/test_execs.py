"""shim.task.container.execs over a strict OCI runtime: what a client that waits, gives up or tries again finds."""

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest

from runtime.bundle import Bundle
from runtime.errors import FailedPrecondition, NotFound, RuntimeFailed
from runtime.oci.cli import OCIRuntime
from runtime.rich.confinement import DEFAULT
from shim.task.container import execs as execs_module
from shim.task.container.execs import Execs
from shim.task.container.phase import Phase
from shim.task.container.process import Process
from shim.task.reaper import Exit
from shim.task.stdio.stdio import Owner, StdioPaths
from tests.fakes.clock import in_time, settled
from tests.fakes.processes import NotedReaper
from tests.fakes.runtime import BINARY, NOT_THERE, StrictRuntime
from tests.fakes.streams import NotedStdio


class World:
    """A running container, its execs, and in `said` what happened."""

    def __init__(self, directory, monkeypatch):
        self.bundle = Bundle(str(directory))
        self.said = []
        self.runtime = StrictRuntime()
        self.runtime.containers["c"] = "running"
        self.reaper = NotedReaper(self.said.append)
        self.stdio = []
        self.changes = 0
        self.attaching = None
        monkeypatch.setattr(execs_module, "open_stdio", self._open)
        monkeypatch.setattr(execs_module.attach, "prime_migration", lambda: None)

    def make(self):
        self.init = Process("", StdioPaths())
        self.init.phase = Phase.RUNNING
        execs = Execs(
            "c",
            "ns",
            self.bundle,
            self.init,
            oci=OCIRuntime(BINARY, self.runtime),
            reaper=self.reaper,
            publish=self._publish,
            owner=Owner(),
            changed=self._changed,
        )
        execs.add("e", StdioPaths(), {"args": ["x"]})
        return execs

    async def _open(self, paths, owner, **about):
        self.stdio.append(NotedStdio(self.said.append))
        if self.attaching is not None:
            self.stdio[-1].fails["attach"] = self.attaching
        return self.stdio[-1]

    def _publish(self, event):
        self.said.append(type(event).__name__)

    def _changed(self):
        self.changes += 1

    def files(self):
        return sorted(os.listdir(self.bundle.path))


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


async def refused(execs):
    with pytest.raises(RuntimeFailed, match="no such program"):
        await execs.start("e")


@in_time
async def test_a_start_is_told_of_before_anything_can_be_told_of_the_end(world):
    execs = world.make()
    assert await execs.start("e") == NOT_THERE
    assert world.said == ["TaskExecAdded", "stdio.attach", "TaskExecStarted", "watch"]
    assert execs.busy()
    world.reaper.end(NOT_THERE, 5)
    assert (await execs.get("e").wait()).status == 5
    assert world.said[-1] == "TaskExit"
    assert (world.changes, execs.busy()) == (1, False)


@in_time
async def test_a_process_object_is_roots_alone_and_goes_with_the_call(world):
    modes = []
    file = f"{world.bundle.path}/e-process.json"
    world.runtime.before["exec"] = lambda: modes.append(os.stat(file).st_mode & 0o777)
    await world.make().start("e")
    assert modes == [0o600]
    assert world.files() == ["e.pid"]


@in_time
async def test_a_process_object_that_cannot_be_written_leaves_no_file(world, monkeypatch):
    """On a full tmpfs a file can be made, but not written."""

    def write(path, value):
        Path(path).touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(execs_module.bundles, "write_json", write)
    with pytest.raises(OSError, match="No space left"):
        await world.make().start("e")
    assert world.files() == []


@pytest.mark.parametrize(("asked", "given"), [(DEFAULT, "pouchrich"), ("own", "own")])
@in_time
async def test_an_exec_has_the_profile_that_the_node_gave_to_the_container(world, asked, given):
    written = []
    file = Path(f"{world.bundle.path}/e-process.json")
    world.runtime.before["exec"] = lambda: written.append(json.loads(file.read_text())["apparmorProfile"])
    execs = world.make()
    execs.apparmor = "pouchrich"
    await execs.delete("e")
    execs.add("e", StdioPaths(), {"args": ["x"], "apparmorProfile": asked})
    await execs.start("e")
    assert written == [given]


@in_time
async def test_who_waits_for_a_start_that_fails_is_let_go_and_nothing_is_left(world):
    world.runtime.answers["exec"] = ["no such program"]
    execs = world.make()
    waiting = asyncio.ensure_future(execs.get("e").wait())
    await refused(execs)
    assert await waiting is None
    assert execs.get("e").phase is Phase.CREATED
    assert world.stdio[0].said == ["close"]
    assert world.files() == []
    assert world.changes == 1
    assert "TaskExecStarted" not in world.said


@in_time
async def test_an_exec_that_could_not_be_started_may_be_tried_again_and_is_waited_for_again(world):
    world.runtime.answers["exec"] = ["no such program"]
    execs = world.make()
    await refused(execs)
    await execs.start("e")
    waiting = asyncio.ensure_future(execs.get("e").wait())
    await settled()
    assert not waiting.done()
    world.reaper.end(NOT_THERE, 4)
    assert await waiting == Exit(NOT_THERE, 4, 1_000)


@in_time
async def test_a_process_that_no_client_takes_is_killed(world):
    world.attaching = FileNotFoundError("no reader")
    execs = world.make()
    with pytest.raises(FileNotFoundError):
        await execs.start("e")
    assert world.reaper.killed == [NOT_THERE]
    assert world.stdio[0].said == ["attach", "close"]
    assert world.reaper.watched == {}


@in_time
async def test_kill_and_delete_come_after_the_start_that_is_under_way(world):
    world.runtime.gates["exec"] = asyncio.Event()
    execs = world.make()
    starting = asyncio.ensure_future(execs.start("e"))
    await settled()
    settling = asyncio.ensure_future(execs.get_after_start("e"))
    await settled()
    assert not settling.done()
    world.runtime.gates["exec"].set()
    await starting
    assert (await settling).pid == NOT_THERE


@in_time
async def test_a_start_that_is_given_up_leaves_the_exec_as_it_was(world):
    world.runtime.gates["exec"] = asyncio.Event()
    execs = world.make()
    starting = asyncio.ensure_future(execs.start("e"))
    await settled()
    starting.cancel()
    await asyncio.wait([starting])
    assert (execs.get("e").phase, world.stdio[0].said, world.files()) == (Phase.CREATED, ["close"], [])
    assert await asyncio.wait_for(execs.get_after_start("e"), 1) is execs.get("e")


@in_time
async def test_the_last_of_an_execs_output_is_waited_for_before_its_streams_are_closed(world):
    execs = world.make()
    await execs.start("e")
    with pytest.raises(FailedPrecondition, match="cannot delete a running process"):
        await execs.delete("e")
    world.reaper.end(NOT_THERE)
    await execs.delete("e")
    assert world.stdio[0].said == ["attach", "drain", "close"]
    assert world.files() == []
    with pytest.raises(NotFound):
        execs.get("e")


@in_time
async def test_a_second_delete_of_an_exec_finds_none_while_the_first_waits_for_its_output(world):
    """containerd's CRI takes NotFound for an exec that is gone, and any other answer for a failure."""
    execs = world.make()
    await execs.start("e")
    world.reaper.end(NOT_THERE)
    draining = asyncio.Event()
    world.stdio[0].drain = draining.wait
    first = asyncio.ensure_future(execs.delete("e"))
    await settled()
    with pytest.raises(NotFound):
        await execs.delete("e")
    draining.set()
    await first


@in_time
async def test_who_waits_for_an_exec_that_is_deleted_is_let_go(world):
    execs = world.make()
    waiting = asyncio.ensure_future(execs.get("e").wait())
    await settled()
    await execs.delete("e")
    assert await waiting is None


@in_time
async def test_nothing_starts_once_init_has_ended(world):
    execs = world.make()
    world.init.finish(Exit(1, 0, 1))
    with pytest.raises(FailedPrecondition, match="init process is not running"):
        await execs.start("e")
    with pytest.raises(FailedPrecondition, match="cannot exec in a stopped state"):
        execs.add("f", StdioPaths(), {})
    assert world.runtime.calls == []


@in_time
async def test_the_containers_end_lets_everybody_go(world):
    execs = world.make()
    await execs.start("e")
    waiting = asyncio.ensure_future(execs.get("e").wait())
    await execs.close()
    assert await waiting is None
    assert world.stdio[0].said == ["attach", "close"]
