"""shim.task.create.create step by step over a strict OCI runtime: whatever step fails, each one before it is undone."""

import asyncio
import errno
import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf.any_pb2 import Any as Packed

from protos.gen import runtimeoptions_pb2
from runtime import rootfs
from runtime.bundle import Bundle
from runtime.errors import InvalidArgument, RuntimeFailed, Unsupported
from runtime.init.boot import Boot
from runtime.rich.extras import Extras
from runtime.rich.plan import Plan
from runtime.rich.policy import Decision
from shim.task import leftovers
from shim.task.container.lifecycle import PlainLifecycle
from shim.task.container.phase import Phase
from shim.task.create import create as create_module
from shim.task.create import mounting
from shim.task.create.create import DELETE_PAUSES_S, CreateRequest, PodTools, create
from shim.task.create.options import TaskOptions
from shim.task.rich.decide import Decided
from shim.task.stdio.stdio import StdioPaths
from tests.fakes.loop import in_loop, threads, until
from tests.fakes.processes import NotedReaper
from tests.fakes.runtime import BINARY, KILLED, NOT_THERE, StrictRuntime
from tests.fakes.streams import NotedStdio

MOUNT = rootfs.Mount("bind", "/image", "", ("rbind",))
SPEC = {"ociVersion": "1.0.2", "process": {"args": ["x"]}, "linux": {"namespaces": [{"type": "pid"}]}, "root": {}}


class Life(PlainLifecycle):
    """A rich container's, which notes what is asked of it."""

    def __init__(self, world):
        self._world = world

    async def prepare(self):
        self._world.say("life.prepare")

    async def created(self, init, cgroup):
        self._world.say("life.created")

    async def abandon(self):
        self._world.say("life.abandon")


class World:
    """One request, and in `said` what was done for it. `fails[what]` is raised where that is said."""

    def __init__(self, directory, monkeypatch):
        self.said = []
        self.fails = {}
        self.mounting = threading.Event()
        self.may_mount = threading.Event()
        self.may_mount.set()
        self.runtime = StrictRuntime()
        self.reaper = NotedReaper(self.say)
        self.bundle = Bundle(str(directory))
        (directory / "config.json").write_text(json.dumps(SPEC))
        self.stdio = NotedStdio(self.say)
        self.request = CreateRequest("c", "ns", self.bundle, (MOUNT,), StdioPaths(), self._options())
        self.tools = PodTools(self.reaper, self.runtime, lambda event: self.say(type(event).__name__))
        for command in ("create", "delete"):
            self.runtime.before[command] = lambda command=command: self._asked(command)
        monkeypatch.setattr(mounting.rootfs, "mount_all", self._mount)
        monkeypatch.setattr(mounting.rootfs, "unmount_all", lambda target: self.say("unmount"))
        monkeypatch.setattr(create_module, "inspect_image", lambda root, spec, choice, config: self.look())
        monkeypatch.setattr(create_module, "open_stdio", self._open)
        monkeypatch.setattr(leftovers.interrupted, "remove_leftovers", self._remove_rest)
        monkeypatch.setattr(create_module.attach.MigrationWindow, "open", lambda window: None)
        monkeypatch.setattr(create_module, "decide", self._decide)
        monkeypatch.setattr(create_module.assembly, "make", lambda *parts, **more: Life(self))
        monkeypatch.setattr(create_module.directories, "make", lambda path: None)
        monkeypatch.setattr(TaskOptions, "oci_binary", lambda chosen, spec, namespace: BINARY)

    def _options(self):
        value = runtimeoptions_pb2.Options(config_body=b"version = 1\n").SerializeToString()
        return Packed(type_url="runtimeoptions.v1.Options", value=value)

    def say(self, what):
        self.said.append(what)
        if what in self.fails:
            raise self.fails[what]

    def _asked(self, command):
        has_record = self.bundle.load_record() is not None
        self.say(f"runtime.{command}" + ("" if has_record else " without a record"))

    def _mount(self, mounts, target, *, run):
        self.mounting.set()
        assert self.may_mount.wait(10)
        self.say("mount")

    async def _open(self, paths, owner, **about):
        self.say("stdio.open")
        return self.stdio

    def _remove_rest(self, bundle, container_id, *, patience_s):
        assert (bundle, container_id) == (self.bundle.path, "c")
        self.say("remove_rest")

    def look(self):
        """See nothing of the image."""
        return "facts", "seen"

    async def _decide(self, spec, choice, config, *, looked, **about):
        assert looked == (("facts", "seen") if choice.rich else None)
        made = Plan(True, "dumb-init", (Decision("rich", "true", "test"),))
        return Decided(made, Extras()) if choice.rich else Decided(Plan(False, None, ()), Extras())

    async def create(self):
        return await create(self.request, self.tools)

    async def fail(self, what):
        """Fail where `what` is said, and return what was said from there on."""
        self.fails[what] = RuntimeFailed(f"no {what}")
        with pytest.raises(RuntimeFailed, match=f"no {what}"):
            await self.create()
        return self.said[self.said.index(what) + 1 :]


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


STEPS = ["mount", "stdio.open", "life.prepare", "runtime.create", "watch", "life.created", "stdio.attach"]


@in_loop
async def test_a_create_takes_its_steps_in_order_and_undoes_none(world):
    container = await world.create()
    assert world.said == STEPS
    assert (container.init.pid, container.init.phase) == (NOT_THERE, Phase.CREATED)
    assert world.runtime.containers == {"c": "created"}
    record = world.bundle.load_record()
    assert (record["version"], record["oci"]["path"], record["plan"]["mode"]) == (1, BINARY.path, "dumb-init")


@in_loop
async def test_a_root_that_cannot_be_mounted_is_unmounted(world):
    assert await world.fail("mount") == ["unmount"]


@in_loop
async def test_streams_that_cannot_be_opened_leave_no_mount(world):
    assert await world.fail("stdio.open") == ["unmount"]


@in_loop
async def test_a_life_that_cannot_be_prepared_is_abandoned_and_the_streams_are_closed(world):
    assert await world.fail("life.prepare") == ["life.abandon", "stdio.close", "unmount"]


@in_loop
async def test_a_container_that_the_runtime_refuses_is_forgotten_by_it_and_by_us(world):
    undone = await world.fail("runtime.create")
    assert undone == ["runtime.delete", "remove_rest", "forget", "life.abandon", "stdio.close", "unmount"]
    assert world.runtime.calls == ["create", "delete --force"]
    assert world.bundle.load_record() is None
    assert world.runtime.containers == {}


@pytest.mark.parametrize("what", STEPS[4:])
@in_loop
async def test_a_container_that_was_made_goes_again_and_nobody_hears_of_its_end(world, what):
    undone = await world.fail(what)
    assert undone == ["runtime.delete", "remove_rest", "forget", "life.abandon", "stdio.close", "unmount"]
    assert (world.reaper.watched, world.reaper.forgotten) == ({}, [NOT_THERE])
    assert world.runtime.containers == {}
    assert world.bundle.load_record() is None


@in_loop
async def test_a_runtime_that_is_killed_at_its_delete_is_asked_again(world):
    world.runtime.answers["delete"] = [KILLED, KILLED]
    await world.fail("life.created")
    assert world.runtime.calls == ["create", *["delete --force"] * 3]
    assert world.runtime.containers == {}


@in_loop
async def test_a_runtime_that_cannot_be_begun_at_its_delete_is_asked_again(world):
    short_until = time.monotonic() + 0.3

    def begin():
        if time.monotonic() < short_until:
            raise OSError(errno.EAGAIN, "again")

    world.runtime.before["delete"] = begin
    undone = await world.fail("life.created")
    assert undone[-5:] == ["remove_rest", "forget", "life.abandon", "stdio.close", "unmount"]
    assert world.runtime.containers == {}


@in_loop
async def test_a_runtime_that_never_deletes_keeps_nothing_else_from_being_undone(world):
    world.runtime.answers["delete"] = ["busy"] * 100
    undone = await world.fail("life.created")
    assert undone[-5:] == ["remove_rest", "forget", "life.abandon", "stdio.close", "unmount"]
    assert undone.count("runtime.delete") == len(DELETE_PAUSES_S)


@in_loop
async def test_a_create_that_is_given_up_undoes_a_mount_after_it_was_made(world):
    world.may_mount.clear()
    creating = asyncio.ensure_future(world.create())
    await until(world.mounting.is_set)
    before = threads()
    creating.cancel()
    await until(lambda: threads() == before + 1)  # the one that unmounts
    assert world.said == []  # not before the mount
    world.may_mount.set()
    await asyncio.wait([creating])
    assert creating.cancelled()
    assert world.said == ["mount", "unmount"]


@in_loop
async def test_a_second_cancellation_does_not_cut_an_undo_short(world):
    world.runtime.gates = {"create": asyncio.Event(), "delete": asyncio.Event()}
    creating = asyncio.ensure_future(world.create())
    for command in ("create", "delete"):
        await until(lambda command=command: f"runtime.{command}" in world.said)
        creating.cancel()
        await asyncio.sleep(0)
    world.runtime.gates["delete"].set()
    await asyncio.wait([creating])
    await until(lambda: "remove_rest" in world.said)
    assert {"forget", "life.abandon", "stdio.close", "unmount"} <= set(world.said)
    assert world.bundle.load_record() is None


@in_loop
async def test_a_plain_container_has_its_root_mounted_before_the_runtime_hears_of_it(world, monkeypatch):
    chosen = SimpleNamespace(rich=False)
    monkeypatch.setattr(create_module.policy, "choose", lambda spec, config, identity: chosen)
    world.may_mount.clear()
    creating = asyncio.ensure_future(world.create())
    await until(lambda: "stdio.open" in world.said)
    assert world.runtime.calls == []
    world.may_mount.set()
    await creating
    assert world.said == ["stdio.open", "mount", "runtime.create", "watch", "stdio.attach"]


@in_loop
async def test_a_container_that_stays_plain_though_it_was_to_be_rich_says_why(world, monkeypatch, caplog):
    caplog.set_level("INFO", "shim.task.create.create")
    counted = []
    monkeypatch.setattr(create_module.measures, "count_fallback", lambda asked, made: counted.append(asked))
    stays = Decision("rich", "false", "the image's command already is an init: /tini")

    async def decide_on_plain(*given, **about):
        return Decided(Plan(False, None, (Decision("rich", "true", "test"), stays)), Extras())

    monkeypatch.setattr(create_module, "decide", decide_on_plain)
    await world.create()
    assert "container c: stays plain: the image's command already is an init: /tini" in caplog.messages
    assert counted == ["dumb-init"]


@pytest.mark.parametrize("boot", [Boot("systemd", 41), None])
@in_loop
async def test_a_rich_container_is_restored_from_no_checkpoint(world, monkeypatch, boot):
    async def decide_on_rich(*given, **about):
        return Decided(Plan(True, "systemd" if boot else "dumb-init", (), boot=boot), Extras())

    monkeypatch.setattr(create_module, "decide", decide_on_rich)
    monkeypatch.setattr(create_module.checkpoint, "require_criu", lambda: None)
    world.request = world.request._replace(checkpoint="/checkpoint")
    with pytest.raises(Unsupported, match="restore of a rich container"):
        await world.create()
    assert world.said == ["mount", "unmount"]


@in_loop
async def test_a_mount_that_a_bad_spec_was_read_after_is_undone_and_its_thread_ends(world, monkeypatch):
    begun, make = [], mounting.Mounting.__init__

    def noted(one, *parts, **more):
        make(one, *parts, **more)
        begun.append(one)

    monkeypatch.setattr(mounting.Mounting, "__init__", noted)
    (Path(world.bundle.path) / "config.json").write_text("{")
    with pytest.raises(InvalidArgument):
        await world.create()
    await until(lambda: begun[0].inspection.done())
    assert world.said == ["mount", "unmount"]
