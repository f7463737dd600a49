"""shim.pod.killed: the sandbox's `delete` ends the members that a killed pod server has left, and tells of it."""

import asyncio
import json
import os
import socket
import time

import pytest
from google.protobuf.empty_pb2 import Empty

from protos.gen import events_pb2, events_service_pb2, task_pb2
from runtime import members, paths
from shim.contract.flags import Flags
from shim.manager.delete import delete
from shim.pod import cleanup, killed
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind
from tests.fakes import loop as loops


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


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

    def member(self, name, lines="", *, pid=4711):
        """A container that the pod server has made; `lines` of shell come before the end of its runtime."""
        flags = self._add(name)
        (self.tasks / name / "sandbox").write_text("box")
        path = members.path_of("ns", "box", name)
        members.make(path, str(self.tasks / name))
        runtime = self.directory / f"runtime-{name}"
        runtime.write_text(f'#!/bin/sh\necho "$*" >>{self.calls_file}\n{lines}\n')
        runtime.chmod(0o755)
        record = {"version": 1, "oci": {"path": str(runtime), "root": "/root", "systemd_cgroup": False}, "plan": {}}
        with open(f"{path}/pouchrich.json", "w") as file:
            json.dump(record, file)
        with open(f"{path}/init.pid", "w") as file:
            file.write(str(pid))
        return flags

    def listen(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.directory / "s"))
        listener.listen()
        return listener

    @property
    def calls(self):
        return sorted(self.calls_file.read_text().splitlines()) if self.calls_file.exists() else []

    @property
    def left(self):
        return members.of_sandbox("ns", "box")


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
    assert pod.calls == [forced("one"), forced("two")]
    assert pod.left == []
    assert os.listdir(f"{paths.PODS}/ns") == []


def test_containerd_may_have_removed_their_bundles_before(pod):
    pod.member("one")
    for path in sorted((pod.tasks / "one").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (pod.tasks / "one").rmdir()
    delete(pod.flags)
    assert pod.calls == [forced("one")]
    assert pod.left == []


def test_members_whose_server_lives_are_its_own(pod):
    pod.member("one")
    with pod.listen():
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
    monkeypatch.setattr(killed, "PATIENCE_S", 0.2)
    go = pod.directory / "go"
    pod.member("one", f"until [ -e {go} ]; do sleep 0.01; done")
    pod.member("two")
    assert delete(pod.flags)
    assert "one" in pod.left
    go.touch()
    until(lambda: pod.left == [])


def test_one_that_cannot_be_ended_keeps_no_other(pod, monkeypatch):
    pod.member("one")
    pod.member("two")
    os.mkdir(f"{members.path_of('ns', 'box', 'one')}/rootfs/busy")  # as if it was mounted still
    said = pod.directory / "said"
    fd = os.open(said, os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(killed.sys.stderr, "flush", lambda: None)
    monkeypatch.setattr(killed.sys.stderr, "write", lambda text: os.write(fd, text.encode()))
    killed.clean_up(pod.flags)
    os.close(fd)
    assert pod.left == ["one"]
    assert "container one: " in said.read_text()
    assert "not empty" in said.read_text()


def test_what_a_process_that_is_killed_was_to_end_another_ends(pod):
    pod.member("one", f"[ $(wc -l <{pod.calls_file}) -ge 2 ] || kill -9 $PPID")
    delete(pod.flags)
    assert pod.calls == [forced("one")] * 2
    assert pod.left == []


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
        try:
            delete(pod.flags)
        finally:
            os._exit(0)
    go.touch()
    for one in (pid, second):
        assert os.waitpid(one, 0)[1] == 0
    assert int(os.read(reader, 10)) > 0
    os.close(reader)
    os.close(writer)
    assert pod.calls == [forced("one")]
    assert pod.left == []


def test_an_end_that_was_told_of_before_is_not_told_of_again(pod, monkeypatch):
    """By the pod server itself, which was killed before it had removed the bundle."""
    pod.member("one")
    os.unlink(f"{members.path_of('ns', 'box', 'one')}/pouchrich.json")
    monkeypatch.setattr(killed, "_tell", lambda *_: (pod.directory / "told").touch())
    killed.clean_up(pod.flags)
    assert (pod.calls, pod.left) == ([], [])
    assert not (pod.directory / "told").exists()


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
