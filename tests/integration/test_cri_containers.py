"""Containers of a pod through the CRI, as the kubelet drives them."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import cgroups, processes
from tests.integration.pods import EXITED, RUNNING, SHARED_PID_NAMESPACE, Pods
from tests.integration.test_ctr_lifecycle import says_no_such_file
from tests.integration.waiting import until

FOREVER = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")
EXECS = 100
ATTEMPTS = 20


def limited(memory_bytes: int) -> pb.ContainerConfig:
    """A container with a memory limit and no swap."""
    resources = pb.LinuxContainerResources(memory_limit_in_bytes=memory_bytes, memory_swap_limit_in_bytes=memory_bytes)
    return pb.ContainerConfig(linux=pb.LinuxContainerConfig(resources=resources))


@pytest.mark.smoke
def test_a_pod_runs_has_an_address_and_goes(pods: Pods) -> None:
    pod = pods.run()
    status = pod.status()
    assert status.state == pb.PodSandboxState.SANDBOX_READY
    assert status.network.ip.startswith("10.222.")
    assert status.runtime_handler == pods.handler
    pod.stop()
    assert pod.status().state == pb.PodSandboxState.SANDBOX_NOTREADY
    pod.remove()
    with pytest.raises(CallFailed, match="NOT_FOUND"):
        pod.status()


@pytest.mark.smoke
@pytest.mark.parametrize(("code", "reason"), [(0, "Completed"), (3, "Error")])
def test_a_container_s_exit_code_and_reason_are_kept(pods: Pods, code: int, reason: str) -> None:
    status = pods.run().run("sh", "-c", f"exit {code}").wait()
    assert (status.exit_code, status.reason) == (code, reason)
    assert 0 < status.created_at <= min(status.started_at, status.finished_at)


def test_a_container_is_created_before_it_runs(pods: Pods) -> None:
    container = pods.run().create("sleep", "300")
    assert container.status().state == pb.ContainerState.CONTAINER_CREATED
    container.start()
    assert container.status().state == RUNNING


@pytest.mark.smoke
def test_two_containers_of_a_pod_share_one_shim(pods: Pods) -> None:
    pod = pods.run()
    first, second = pod.run(*FOREVER, name="first"), pod.run(*FOREVER, name="second")
    table = processes.parents()
    shims = {table[pid] for pid in (pod.pid(), first.pid(), second.pid())}
    assert shims == set(pods.node.shims()), "not one shim for pause and both containers"
    first.stop(grace_s=5)
    first.remove()
    assert second.status().state == RUNNING
    assert second.exec("true").exit_code == 0


def test_stop_sends_sigterm_and_waits(pods: Pods) -> None:
    container = pods.run().run("sh", "-c", "trap 'sleep 0.3; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    until(lambda: container.output() == b"ready\n", "the trap to be set")
    container.stop(grace_s=10)
    assert container.status().exit_code == 7


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace_period(pods: Pods) -> None:
    container = pods.run().run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    until(lambda: container.output() == b"ready\n", "the trap to be set")
    container.stop(grace_s=1)
    status = container.status()
    assert (status.state, status.exit_code) == (EXITED, 137)


def test_a_stopped_container_stops_again(pods: Pods) -> None:
    container = pods.run().run("true")
    container.wait()
    container.stop(grace_s=1)
    assert container.status().exit_code == 0


@pytest.mark.smoke
def test_a_missing_binary_fails_the_start_with_the_runtimes_words(pods: Pods) -> None:
    container = pods.run().create("/no/such/binary")
    with pytest.raises(CallFailed) as failure:
        container.start()
    assert says_no_such_file(failure.value.message), failure.value.message
    status = container.status()
    assert (status.state, status.exit_code) == (EXITED, 128)


def test_a_pod_goes_on_after_a_container_failed_to_start(pods: Pods) -> None:
    pod = pods.run()
    with pytest.raises(CallFailed):
        pod.create("/no/such/binary", name="bad").start()
    assert pod.run("true", name="good").wait().exit_code == 0


@pytest.mark.smoke
def test_a_process_over_the_memory_limit_is_reported_as_oom_killed(pods: Pods) -> None:
    grow = 'BEGIN { x = "x"; while (1) x = x x }'
    status = pods.run().run("awk", grow, config=limited(24 << 20)).wait()
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_an_update_reaches_the_cgroup(pods: Pods) -> None:
    container = pods.run().run(*FOREVER, config=limited(64 << 20))
    pid = container.pid()
    assert _memory_limit(pid) == 64 << 20
    container.update(pb.LinuxContainerResources(memory_limit_in_bytes=96 << 20, memory_swap_limit_in_bytes=96 << 20))
    assert _memory_limit(pid) == 96 << 20


def _memory_limit(pid: int) -> int:
    directory = cgroups.of_process(pid, "memory")
    for name in ("memory.limit_in_bytes", "memory.max"):
        if (directory / name).exists():
            return int((directory / name).read_text())
    raise AssertionError(f"no limit in {directory}")


def test_stats_of_a_busy_container_are_not_zero(pods: Pods) -> None:
    container = pods.run().run("sh", "-c", "while :; do :; done")
    until(lambda: container.stats().cpu.usage_core_nano_seconds.value > 10_000_000, "10 ms of use")
    assert container.stats().memory.working_set_bytes.value > 0


def test_no_file_of_a_removed_container_s_cgroup_stays_open(pods: Pods) -> None:
    """It is read each second, for as long as the container is there."""
    pod = pods.run()
    gone, stays = pod.run(*FOREVER, name="gone"), pod.run(*FOREVER, name="stays")
    directory = cgroups.of_process(gone.pid(), "memory")
    for container in (gone, stays, gone, stays):
        assert container.stats().memory.working_set_bytes.value > 0
    (shim,) = pods.node.shims()
    gone.remove()
    assert not directory.exists()
    assert [target for target in processes.open_files(shim) if str(directory) in target] == []
    assert stays.stats().memory.working_set_bytes.value > 0


def test_the_container_runs_as_the_user_it_was_given(pods: Pods) -> None:
    """And may open /dev/stdout again: the pipe belongs to the user."""
    security = pb.LinuxContainerSecurityContext(run_as_user=pb.Int64Value(value=1000))
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=security))
    container = pods.run().run("sh", "-c", "id -u > /dev/stdout; echo err > /dev/stderr", config=config)
    assert container.wait().exit_code == 0
    assert (container.output(), container.output("stderr")) == (b"1000\n", b"err\n")


def test_leftovers_of_init_die_with_it_where_the_pod_shares_its_pid_namespace(pods: Pods) -> None:
    container = pods.run(namespaces=SHARED_PID_NAMESPACE).run("sh", "-c", "sleep 321 & exit 5")
    assert container.wait(timeout_s=10).exit_code == 5
    until(lambda: not any("sleep 321" in processes.command(pid) for pid in pods.node.below()), "the sleep to end")


@pytest.mark.smoke
def test_execsync_returns_output_and_exit_code(pods: Pods) -> None:
    answer = pods.run().run(*FOREVER).exec("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (answer.stdout, answer.stderr, answer.exit_code) == (b"out\n", b"err\n", 3)


def test_execsync_of_a_missing_binary_fails(pods: Pods) -> None:
    container = pods.run().run(*FOREVER)
    with pytest.raises(CallFailed) as failure:
        container.exec("/no/such/binary")
    assert says_no_such_file(failure.value.message), failure.value.message
    assert container.exec("true").exit_code == 0


def test_execsync_is_killed_at_its_timeout(pods: Pods) -> None:
    container = pods.run().run(*FOREVER)
    with pytest.raises(CallFailed, match="DEADLINE_EXCEEDED"):
        container.exec("sleep", "300", timeout_s=1)
    until(lambda: "sleep 300" not in container.shell("ps"), "the sleep to end")


def test_an_exec_that_the_container_keeps_from_beginning_leaves_no_process_on_the_node(pods: Pods) -> None:
    """The OCI runtime waits for the exec's process, which root in the container can stop before it executes."""
    container = pods.run().run("sleep", "1000")
    with stopping_whatever_begins(cgroups.of_process(container.pid(), "pids")) as stopped:
        for _ in range(ATTEMPTS):
            try:
                container.exec("true", give_up_s=3)
            except CallFailed:
                break
        else:
            pytest.fail("no process was stopped")
        # What is stopped is the container's, and its OCI runtime is not.
        until(lambda: not set(_execs(pods)) - stopped, "the OCI runtime to end")
    assert container.shell("echo on") == "on\n"


@contextmanager
def stopping_whatever_begins(cgroup: Path) -> Iterator[set[int]]:
    """Send SIGSTOP to each process that is new in the cgroup. Yields their pids, to which more come."""
    stopped: set[int] = set()
    enough = threading.Event()
    known = _procs(cgroup)

    def stop() -> None:
        while not enough.is_set():
            for pid in _procs(cgroup) - known - stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    stopped.add(pid)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield stopped
    finally:
        enough.set()
        thread.join()


def _execs(pods: Pods) -> list[int]:
    return [pid for pid in pods.node.below() if " exec " in processes.command(pid)]


def _procs(cgroup: Path) -> set[int]:
    return {int(word) for word in (cgroup / "cgroup.procs").read_text().split()}


@pytest.mark.defect("the shim of containerd 1.6.20 loses exits (containerd #8557)", containerd="1.6", runtime="runc.v2")
def test_of_a_hundred_short_execs_at_once_none_is_lost(pods: Pods) -> None:
    container = pods.run().run("sleep", "300")

    def execute(number: int) -> tuple[int, bytes]:
        answer = container.exec("sh", "-c", f"echo {number}; exit {number}")
        return answer.exit_code, answer.stdout

    with ThreadPoolExecutor(EXECS) as pool:
        answers = list(pool.map(execute, range(EXECS)))
    assert answers == [(number, b"%d\n" % number) for number in range(EXECS)]
    rest = 1 if pods.handler == "pouchrich-rich" else 0
    until(lambda: len(processes.descendants(container.pid())) == rest, "the container to have nothing but its command")
