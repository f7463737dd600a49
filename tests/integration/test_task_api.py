"""containerd's Tasks service called directly: states between create and start, waits, processes by their ids."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf import any_pb2, empty_pb2

from tests.cri.client import CallFailed, Client
from tests.cri.gen import tasks_pb2 as pb
from tests.integration.ctr import Ctr
from tests.integration.waiting import until

SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"


class Tasks:
    """Tasks for containers that ctr created. Their rootfs is the unpacked image, shared read-write by one test."""

    def __init__(self, ctr: Ctr) -> None:
        self.ctr = ctr
        self.client = Client(ctr.node.socket, namespace="default")
        self.pool = ThreadPoolExecutor(4)
        self.rootfs = self._unpack()
        self.stdio = ctr.node.base / "fifos"
        self.stdio.mkdir(exist_ok=True)

    def _unpack(self) -> Path:
        """`ctr run --rootfs` takes a directory: Create then needs no snapshot's mounts."""
        rootfs = self.ctr.node.base / "rootfs"
        if not rootfs.exists():
            rootfs.mkdir()
            busybox = Path("/bin/busybox").read_bytes()
            for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "run"):
                (rootfs / name).mkdir()
            (rootfs / "bin/busybox").write_bytes(busybox)
            (rootfs / "bin/busybox").chmod(0o755)
            for applet in ("sh", "sleep", "true", "echo", "cat", "kill"):
                (rootfs / "bin" / applet).symlink_to("busybox")
        return rootfs

    def create(self, *command: str, options: any_pb2.Any | None = None) -> str:
        """A container with a task in state CREATED, without stdio.

        Made by running it once, because `ctr containers create` of 1.6 cannot name an OCI runtime.
        """
        container = self.ctr.new_id()
        flags = ["--cgroup", f"{self.ctr.node.cgroup}/{container}", "--detach", "--null-io", "--rootfs"]
        self.ctr.check("run", *self.ctr.runtime_flags(), *flags, str(self.rootfs), container, *command)
        self.ctr.kill(container, "SIGKILL")
        self.ctr.wait_stopped(container)
        self.ctr.delete_task(container)
        self.client.call(pb.CreateTaskRequest(container_id=container, options=options), pb.CreateTaskResponse)
        return container

    def start(self, container: str, exec_id: str = "") -> int:
        request = pb.StartRequest(container_id=container, exec_id=exec_id)
        return self.client.call(request, pb.StartResponse).pid

    def get(self, container: str, exec_id: str = "") -> pb.Process:
        request = pb.GetRequest(container_id=container, exec_id=exec_id)
        return self.client.call(request, pb.GetResponse).process

    def wait(self, container: str, exec_id: str = "") -> "Future[pb.WaitResponse]":
        """A wait under way."""
        request = pb.WaitRequest(container_id=container, exec_id=exec_id)
        return self.pool.submit(self.client.call, request, pb.WaitResponse)

    def kill(self, container: str, number: int = signal.SIGKILL, exec_id: str = "") -> None:
        request = pb.KillRequest(container_id=container, exec_id=exec_id, signal=number)
        self.client.call(request, empty_pb2.Empty)

    def add_exec(self, container: str, exec_id: str, *command: str, stdout: str = "") -> None:
        """Add a process to the container, not yet started."""
        process = {"args": command, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]}
        spec = any_pb2.Any(type_url=SPEC_URL, value=json.dumps(process).encode())
        request = pb.ExecProcessRequest(
            container_id=container, exec_id=exec_id, spec=spec, stdout=stdout, stderr=stdout and f"{stdout}-err"
        )
        self.client.call(request, empty_pb2.Empty)

    def delete(self, container: str) -> int:
        return self.client.call(pb.DeleteTaskRequest(container_id=container), pb.DeleteResponse).exit_status

    def delete_exec(self, container: str, exec_id: str) -> int:
        request = pb.DeleteProcessRequest(container_id=container, exec_id=exec_id)
        return self.client.call(request, pb.DeleteResponse).exit_status

    def close(self) -> None:
        self.client.close()
        self.pool.shutdown()


@pytest.fixture
def tasks(ctr: Ctr) -> Iterator[Tasks]:
    found = Tasks(ctr)
    yield found
    found.ctr.remove_all()
    found.close()


@pytest.mark.smoke
def test_a_created_task_has_a_pid_and_waits_to_be_started(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    created = tasks.get(container)
    assert created.status == pb.Status.CREATED
    assert Path(f"/proc/{created.pid}").exists()
    assert tasks.start(container) == created.pid
    assert tasks.get(container).status == pb.Status.RUNNING


@pytest.mark.smoke
def test_a_wait_from_before_the_start_gets_the_exit(tasks: Tasks) -> None:
    container = tasks.create("/bin/sh", "-c", "exit 11")
    waits = [tasks.wait(container), tasks.wait(container)]
    tasks.start(container)
    answers = [wait.result(timeout=10) for wait in waits]
    assert [answer.exit_status for answer in answers] == [11, 11]
    assert answers[0].exited_at == answers[1].exited_at == tasks.get(container).exited_at
    assert tasks.wait(container).result(timeout=10).exit_status == 11
    assert tasks.delete(container) == 11


def test_a_created_task_that_is_killed_ends_with_137(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    wait = tasks.wait(container)
    tasks.kill(container)
    assert wait.result(timeout=10).exit_status == 137
    assert tasks.delete(container) == 137


def test_a_task_is_started_once(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    tasks.start(container)
    with pytest.raises(CallFailed):
        tasks.start(container)
    assert tasks.get(container).status == pb.Status.RUNNING


@pytest.mark.smoke
def test_a_running_task_is_not_deleted(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    tasks.start(container)
    with pytest.raises(CallFailed):
        tasks.delete(container)
    assert tasks.get(container).status == pb.Status.RUNNING


@pytest.mark.smoke
def test_killing_an_ended_task_is_not_found(tasks: Tasks) -> None:
    container = tasks.create("/bin/true")
    wait = tasks.wait(container)
    tasks.start(container)
    wait.result(timeout=10)
    with pytest.raises(CallFailed, match="NOT_FOUND"):
        tasks.kill(container, signal.SIGTERM)


def test_an_exec_has_its_own_life(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    tasks.start(container)
    tasks.add_exec(container, "one", "/bin/sh", "-c", "exit 12")
    assert tasks.get(container, "one").status == pb.Status.CREATED
    wait = tasks.wait(container, "one")
    tasks.start(container, "one")
    assert wait.result(timeout=10).exit_status == 12
    assert tasks.get(container, "one").status == pb.Status.STOPPED
    assert tasks.delete_exec(container, "one") == 12
    with pytest.raises(CallFailed, match="NOT_FOUND"):
        tasks.get(container, "one")


def test_an_exec_id_is_taken_until_it_is_deleted(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    tasks.start(container)
    tasks.add_exec(container, "same", "/bin/true")
    with pytest.raises(CallFailed, match="ALREADY_EXISTS"):
        tasks.add_exec(container, "same", "/bin/true")
    tasks.delete_exec(container, "same")
    tasks.add_exec(container, "same", "/bin/true")


@pytest.mark.smoke
def test_a_wait_on_an_exec_that_fails_to_start_comes_back(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    tasks.start(container)
    tasks.add_exec(container, "bad", "/no/such/binary")
    wait = tasks.wait(container, "bad")
    with pytest.raises(CallFailed):
        tasks.start(container, "bad")
    wait.result(timeout=10)
    tasks.delete_exec(container, "bad")
    assert tasks.get(container).status == pb.Status.RUNNING


def test_killing_an_exec_that_never_started_is_a_failed_precondition(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    tasks.start(container)
    tasks.add_exec(container, "idle", "/bin/true")
    with pytest.raises(CallFailed, match="FAILED_PRECONDITION"):
        tasks.kill(container, exec_id="idle")


@pytest.mark.smoke
def test_a_grandchild_that_keeps_stdout_open_does_not_delay_the_exit(tasks: Tasks) -> None:
    container = tasks.create("/bin/sleep", "300")
    tasks.start(container)
    fifo = tasks.stdio / f"{container}-out"
    os.mkfifo(fifo)
    os.mkfifo(f"{fifo}-err")
    readers = [os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in (fifo, f"{fifo}-err")]
    tasks.add_exec(container, "parent", "/bin/sh", "-c", "echo first; sleep 200 & exit 13", stdout=str(fifo))
    wait = tasks.wait(container, "parent")
    tasks.start(container, "parent")
    assert wait.result(timeout=5).exit_status == 13
    assert until(lambda: _read(readers[0]), "the output") == b"first\n"
    assert tasks.get(container, "parent").status == pb.Status.STOPPED
    assert tasks.pool.submit(tasks.delete_exec, container, "parent").result(timeout=15) == 13
    for reader in readers:
        os.close(reader)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 4096)
    except BlockingIOError:
        return b""


@pytest.mark.only(containerd=("1.6", "1.7"), runtime=("pouchrich", "dropin"))
def test_options_of_an_unknown_type_are_an_invalid_argument(tasks: Tasks) -> None:
    """containerd 2 lets no other than runc's through; containerd's own shim panics."""
    with pytest.raises(CallFailed, match="INVALID_ARGUMENT") as failure:
        tasks.create("/bin/sleep", "300", options=any_pb2.Any(type_url="example.v1.Options", value=b"\x0a\x00"))
    assert "example.v1.Options" in failure.value.message
