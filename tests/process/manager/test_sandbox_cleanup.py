"""shim.pod.sandbox_cleanup: the sandbox's `delete` ends the members that a killed pod server has left."""

import asyncio
import json
import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from protos.gen import events_pb2, events_service_pb2, task_pb2
from runtime import members, paths
from shim.contract.flags import Flags
from shim.manager.delete import delete
from shim.pod import cleanup, sandbox_cleanup
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind
from tests.fakes import loop as loops
from tests.process.manager.test_delete import until


class Pod:
    """A sandbox and members in containerd's directory, and an OCI runtime that is a script and notes its words."""

    def __init__(self, directory):
        self.directory = directory
        self.tasks = directory / "task/ns"
        self.calls_file = directory / "calls"
        self.flags = self._add("box", "unix://" + str(directory / "s"))

    def _add(self, name, address=""):
        bundle = self.tasks / name
        (bundle / "rootfs").mkdir(parents=True)
        spec = {"linux": {}, "annotations": {"io.kubernetes.cri.sandbox-id": "box"}}
        (bundle / "config.json").write_text(json.dumps(spec))
        if address:
            (bundle / "address").write_text(address)
        flags = Flags()
        flags.namespace, flags.id, flags.bundle = "ns", name, str(bundle)
        return flags

    def member(self, name, lines="", *, pid=4711, served=False):
        """A container that the pod server has made; `lines` of shell come before the end of its runtime."""
        flags = self._add(name)
        (self.tasks / name / "sandbox").write_text("box")
        path = members.path_of("ns", "box", name)
        members.make(path, str(self.tasks / name))
        if not served:
            with open(f"{path}/server") as file:
                pid_of_server, _, pids = file.read().split()
            with open(f"{path}/server", "w") as file:
                file.write(f"{pid_of_server} 1 {pids}")  # of a process that has ended, whose number is used again
        runtime = self.directory / f"runtime-{name}"
        runtime.write_text(f'#!/bin/sh\necho "$*" >>{self.calls_file}\n{lines}\n')
        runtime.chmod(0o755)
        record = {"version": 1, "oci": {"path": str(runtime), "root": "/root", "systemd_cgroup": False}, "plan": {}}
        with open(f"{path}/pouchrich.json", "w") as file:
            json.dump(record, file)
        with open(f"{path}/init.pid", "w") as file:
            file.write(str(pid))
        return flags

    @property
    def calls(self):
        return sorted(self.calls_file.read_text().splitlines()) if self.calls_file.exists() else []

    @property
    def left(self):
        return members.list_members("ns", "box")


@pytest.fixture
def pod(tmp_path, monkeypatch):
    for name in ("RECORDS", "BUNDLES", "PODS", "CONTAINERS"):
        monkeypatch.setattr(paths, name, str(tmp_path / name.lower()))
    monkeypatch.delenv("TTRPC_ADDRESS", raising=False)
    return Pod(tmp_path)


def forced(name):
    return f"--root /root --log /dev/null --log-format json delete --force {name}"


def test_the_members_of_a_sandbox_whose_server_is_dead_are_ended_with_it(pod):
    pod.member("one")
    pod.member("two")
    answer = task_pb2.DeleteResponse.FromString(delete(pod.flags))
    assert answer.exit_status == 137
    until(lambda: os.listdir(f"{paths.PODS}/ns") == [])
    assert pod.calls == [forced("one"), forced("two")]


def test_containerd_may_have_removed_their_bundles_before(pod):
    pod.member("one")
    shutil.rmtree(pod.tasks / "one")
    delete(pod.flags)
    until(lambda: pod.left == [])
    assert pod.calls == [forced("one")]


def test_members_whose_server_lives_are_its_own_whatever_is_left_of_the_sandbox(pod):
    """containerd has removed the sandbox's bundle, and its address with it, of a `delete` that it has killed."""
    pod.member("one", served=True)
    shutil.rmtree(pod.tasks / "box")
    pod.flags.bundle = str(pod.directory)
    delete(pod.flags)
    assert pod.calls == []
    assert pod.left == ["one"]


def test_a_member_that_containerd_asks_for_by_itself_is_ended_alone(pod):
    """A containerd that was started again runs `delete` for members too (core/runtime/v2/shim_load.go)."""
    flags = pod.member("one", pid=42)
    pod.member("two")
    answer = task_pb2.DeleteResponse.FromString(delete(flags))
    assert (answer.pid, answer.exit_status) == (42, 137)
    assert pod.calls == [forced("one")]
    assert pod.left == ["two"]
    assert delete(flags)
    assert pod.calls == [forced("one")]


def test_a_member_that_takes_long_does_not_hold_up_the_answer_for_ever_and_is_ended(pod, monkeypatch):
    monkeypatch.setattr(sandbox_cleanup, "PATIENCE_S", 0.2)
    go = pod.directory / "go"
    pod.member("one", f"until [ -e {go} ]; do sleep 0.01; done")
    pod.member("two")
    assert delete(pod.flags)
    assert "one" in pod.left
    go.touch()
    until(lambda: pod.left == [])


def test_one_that_cannot_be_ended_keeps_no_other_and_is_ended_when_it_can_be(pod, capfd):
    pod.member("one")
    pod.member("two")
    busy = f"{members.path_of('ns', 'box', 'one')}/rootfs/busy"  # as if it was mounted still
    os.mkdir(busy)
    answer, _, rest = sandbox_cleanup.clean_up(pod.flags)
    assert answer
    assert pod.left == ["one"]
    said = capfd.readouterr().err
    assert "container one: " in said
    assert "not empty" in said
    os.rmdir(busy)
    rest.go_on()
    assert pod.left == []


def pipes():
    """Those that this process has open."""
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(path) for path in paths if os.path.exists(path) and "pipe:" in os.readlink(path))


def test_where_no_process_can_be_made_the_sandbox_is_cleaned_up_all_the_same(pod, monkeypatch, capfd):
    def refuse():
        raise BlockingIOError(11, "Resource temporarily unavailable")

    pod.member("one")
    socket_file = pod.directory / "s"
    socket_file.touch()
    before = pipes()
    monkeypatch.setattr(sandbox_cleanup.os, "fork", refuse)
    sandbox_cleanup.clean_up(pod.flags)
    assert not socket_file.exists()
    assert pipes() == before
    assert "containers left of the pod with sandbox box: " in capfd.readouterr().err


def test_what_goes_on_holds_none_of_containerds_pipes(pod):
    """containerd waits until nobody has them, also after it has killed the command (os/exec, Cmd.Wait)."""
    go = pod.directory / "go"
    pod.member("one", f"until [ -e {go} ]; do sleep 0.01; done")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for fd in (0, 1, 2):
            os.dup2(writer, fd)
        os.close(writer)
        try:
            sandbox_cleanup.PATIENCE_S = 0.2
            sandbox_cleanup.clean_up(pod.flags)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b""  # at the end of the process
    os.waitpid(pid, 0)
    assert pod.left == ["one"]
    go.touch()
    until(lambda: pod.left == [])


def test_what_a_process_that_is_killed_was_to_end_another_ends_before_the_answer(pod, monkeypatch):
    monkeypatch.setattr(sandbox_cleanup, "PATIENCE_S", 60)
    pod.member("one", f"[ $(wc -l <{pod.calls_file}) -ge 2 ] || kill -9 $PPID")
    sandbox_cleanup.clean_up(pod.flags)
    assert pod.left == []
    assert pod.calls == [forced("one")] * 2


def test_two_deletes_at_once_end_a_member_once(pod):
    """containerd that was started again runs both, the sandbox's and the member's."""
    go = pod.directory / "go"
    flags = pod.member("one", f"until [ -e {go} ]; do sleep 0.01; done")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            os.write(writer, b"%d" % len(delete(flags)))
        finally:
            os._exit(0)
    until(lambda: pod.calls)
    second = os.fork()
    if second == 0:
        wait = cleanup._wait_for_others
        cleanup._wait_for_others = lambda held: (Path(held.bundle).name == "one" and go.touch(), wait(held))
        try:
            delete(pod.flags)
        finally:
            os._exit(0)
    for one in (pid, second):
        assert os.waitpid(one, 0)[1] == 0
    assert int(os.read(reader, 10)) > 0
    os.close(reader)
    os.close(writer)
    assert pod.calls == [forced("one")]
    assert pod.left == []


def test_an_end_is_told_of_once_also_where_the_first_attempt_gets_no_further(pod, monkeypatch):
    told = pod.directory / "told"
    pod.member("one")
    busy = f"{members.path_of('ns', 'box', 'one')}/rootfs/busy"
    os.mkdir(busy)

    def tell(flags, pid):
        with told.open("a") as file:
            file.write(f"{flags.id} {pid}\n")

    monkeypatch.setattr(sandbox_cleanup, "_publish_exit", tell)
    monkeypatch.setattr(sandbox_cleanup, "PATIENCE_S", 0.2)
    rest = sandbox_cleanup.clean_up(pod.flags)[2]
    os.rmdir(busy)
    rest.go_on()
    sandbox_cleanup.clean_up(pod.flags)
    until(lambda: told.exists() and told.read_text())
    assert told.read_text() == "one 4711\n"


def test_of_one_that_the_oci_runtime_never_heard_of_there_is_no_end_to_tell(pod, monkeypatch):
    """Its server was killed before it wrote the record, in a Create, of which containerd's client has been told."""
    pod.member("one")
    os.unlink(f"{members.path_of('ns', 'box', 'one')}/pouchrich.json")
    monkeypatch.setattr(sandbox_cleanup, "_publish_exit", lambda *_: (pod.directory / "told").touch())
    monkeypatch.setattr(sandbox_cleanup, "PATIENCE_S", 60)
    sandbox_cleanup.clean_up(pod.flags)
    assert (pod.calls, pod.left) == ([], [])
    time.sleep(0.2)
    assert not (pod.directory / "told").exists()


def test_members_that_nobody_is_called_for_are_ended_by_the_next_start(pod):
    """The sandbox had ended before its server was killed."""
    pod.member("one")
    pod.member("living", served=True)
    sandbox_cleanup.start_member_cleanup()
    assert pod.left == ["living", "one"]
    shutil.rmtree(pod.tasks / "box")
    sandbox_cleanup.start_member_cleanup()
    until(lambda: pod.left == ["living"])
    assert pod.calls == [forced("one")]


class Receiver:
    """The part of containerd that takes events."""

    def __init__(self):
        self.envelopes = []

    async def forward(self, request):
        self.envelopes.append(request.envelope)
        return Empty()


def test_containerd_is_told_of_their_ends(pod, monkeypatch):
    path = str(pod.directory / "events")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    monkeypatch.setenv("TTRPC_ADDRESS", path)
    pod.member("one", pid=42)
    pid = os.fork()
    if pid == 0:
        try:
            delete(pod.flags)
        finally:
            os._exit(0)
    receiver = Receiver()

    async def receive():
        service = events_service_pb2.DESCRIPTOR.services_by_name["Events"]
        server = TtrpcServer([bind(service, receiver)], status_of=lambda _: None)
        await server.start(listener)
        await loops.until(lambda: len(receiver.envelopes) == 2, timeout_s=60)
        server.close()

    asyncio.run(receive())
    os.waitpid(pid, 0)
    exited, deleted = receiver.envelopes
    assert [(one.namespace, one.topic) for one in (exited, deleted)] == [("ns", "/tasks/exit"), ("ns", "/tasks/delete")]
    found = events_pb2.TaskExit.FromString(exited.event.value)
    assert (found.container_id, found.id, found.pid, found.exit_status) == ("one", "one", 42, cleanup.KILLED)
    assert found.exited_at.seconds > 1_000_000_000
    gone = events_pb2.TaskDelete.FromString(deleted.event.value)
    assert (gone.container_id, gone.pid, gone.exit_status) == ("one", 42, cleanup.KILLED)
