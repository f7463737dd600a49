"""containerd's Tasks service called directly: states between create and start, waits, processes by their ids."""

import os
import signal
from pathlib import Path

import pytest
from google.protobuf import any_pb2

from tests.cri.client import CallFailed
from tests.cri.gen import tasks_pb2 as pb
from tests.integration import spawners
from tests.integration.tasks import Tasks
from tests.integration.waiting import until


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


def test_crun_runs_by_the_spawners_mount(tasks: Tasks) -> None:
    """What waits to be started is still crun itself."""
    environment = tasks.ctr.environment
    if environment.runtime == "runc.v2" or environment.oci != "crun" or spawners.said() != "on":
        pytest.skip("another runtime, or no spawner to rely on")
    until(tasks.ctr.node.spawners, "the spawner")
    container = tasks.create("/bin/sleep", "300")
    until(lambda: os.readlink(f"/proc/{tasks.get(container).pid}/exe") == "/", "a crun that is nowhere mounted")
    tasks.start(container)
    assert tasks.get(container).status == pb.Status.RUNNING


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


@pytest.mark.usually("1.6-runc-pouchrich", "2.1-crun-pouchrich")  # ten seconds each
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
