"""What survives when containerd or a shim is killed (SIGKILL) in the middle of things."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes
from tests.integration.ctr import Ctr
from tests.integration.node import Node
from tests.integration.pods import EXITED, RUNNING, Pods
from tests.integration.test_cri_containers import FOREVER
from tests.integration.waiting import until

LINES = 200
GATE = LINES - 50
COUNT = (
    f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.01;"
    f" [ $i -ne {GATE} ] || until [ -e /tmp/go ]; do sleep 0.05; done; done; exit 7"
)


def restart(pods: Pods, *, down_s: float = 0.0) -> None:
    """Kill containerd, leave it down for a while, start it again."""
    pods.node.kill_containerd()
    time.sleep(down_s)
    pods.node.start()
    pods.reconnect()


def kill_shim(node: Node, runtime: str, *, containing: str = "") -> None:
    """Kill the one shim there is. containerd's own leaves its socket file then; ours has no such excuse."""
    (shim,) = node.shims(containing=containing)
    os.kill(shim, signal.SIGKILL)
    until(lambda: not processes.alive(shim), "the shim to end")
    if runtime == "runc.v2":
        for socket in Path("/run/containerd/s").iterdir():
            socket.unlink()


@pytest.mark.smoke
def test_a_container_outlives_a_killed_containerd_with_output_and_exit_code(pods: Pods) -> None:
    container = pods.run().run("sh", "-c", COUNT)
    until(lambda: container.output().count(b"\n") > 20, "some lines")
    pid = container.pid()
    restart(pods, down_s=0.3)
    assert container.pid() == pid
    assert container.status().state == RUNNING
    container.shell("touch /tmp/go")
    status = container.wait()
    assert status.exit_code == 7
    container.wait_output(b"".join(b"line %d\n" % number for number in range(LINES)))


def test_a_container_that_writes_more_than_the_pipes_hold_waits_for_containerd(pods: Pods) -> None:
    """Nobody reads while containerd is away: the writer has to block, neither fail nor lose anything."""
    script = "until [ -e /tmp/go ]; do sleep 0.05; done; seq 1 200000; sleep 1; exit 5"
    container = pods.run().run("sh", "-c", script)
    container.shell("(sleep 0.3; touch /tmp/go) >/dev/null 2>&1 &")
    restart(pods, down_s=1.0)
    assert container.status().state == RUNNING
    status = container.wait()
    assert status.exit_code == 5
    container.wait_output(b"".join(b"%d\n" % number for number in range(1, 200_001)))


def test_exec_and_stop_work_after_containerd_came_back(pods: Pods) -> None:
    pod = pods.run()
    container = pod.run(*FOREVER)
    restart(pods)
    assert container.shell("echo still here") == "still here\n"
    container.stop(grace_s=10)
    assert container.status().exit_code == 0
    second = pod.run("sh", "-c", "exit 4", name="later")
    assert second.wait().exit_code == 4


def test_stdin_and_terminal_work_after_containerd_came_back(pods: Pods) -> None:
    container = pods.run().run("sh", config=pb.ContainerConfig(stdin=True, tty=True))
    restart(pods)
    with container.attach(tty=True) as stream:
        stream.write(b"echo sum-$((40+2))\n")
        stream.read_until(b"sum-42")
        stream.write(b"exit 6\n")
        stream.read_all()
    assert container.wait().exit_code == 6


@pytest.mark.only(runtime=("pouchrich", "dropin"))
def test_an_exit_while_containerd_is_away_is_told_later(pods: Pods) -> None:
    """containerd's own shim loses it from 1.7 on: Pids fails for an ended task, which then counts as leaked."""
    container = pods.run().run("sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; done; exit 7")
    container.shell("(sleep 0.3; touch /tmp/go) >/dev/null 2>&1 &")
    restart(pods, down_s=1.0)
    assert container.wait().exit_code == 7


@pytest.mark.smoke
def test_after_a_shim_was_killed_containerd_cleans_up(ctr: Ctr) -> None:
    container = ctr.start("sh", "-c", "sleep 300 & sleep 300; true")
    until(lambda: len(ctr.pids(container)) == 3 + ctr.environment.adds, "the processes")
    init = ctr.pid(container)
    kill_shim(ctr.node, ctr.environment.runtime, containing=container)
    until(lambda: ctr.status(container) == "", "the task to go")
    until(lambda: not processes.alive(init), "init to be killed")
    ctr.check("containers", "rm", container)


def test_a_container_whose_shim_was_killed_runs_again(ctr: Ctr) -> None:
    container = ctr.start("sleep", "300")
    kill_shim(ctr.node, ctr.environment.runtime, containing=container)
    until(lambda: ctr.status(container) == "", "the task to go")
    until(lambda: not list(ctr.node.base.glob(f"state/*/default/{container}")), "the bundle to go")
    # containerd forgets the task a moment after it has removed the bundle.
    until(lambda: ctr.call("tasks", "start", "--detach", container).code == 0, "the container to run again")
    assert ctr.status(container) == "RUNNING"


@pytest.mark.smoke
@pytest.mark.defect("containerd runs no `delete` for members of a version 3 shim", containerd="2.1", runtime="runc.v2")
def test_the_containers_of_a_killed_shim_are_reported_as_exited(pods: Pods) -> None:
    pod = pods.run()
    containers = [pod.run(*FOREVER, name=name) for name in ("first", "second")]
    kill_shim(pods.node, pods.handler)
    for container in containers:
        status = container.wait()
        assert status.state == EXITED
        assert status.exit_code in (137, 255)  # 255 where CRI asked the dead shim before containerd told it
    until(lambda: pod.status().state == pb.PodSandboxState.SANDBOX_NOTREADY, "the pod to be not ready")


def test_a_shim_killed_while_containerd_is_away_is_cleaned_up_at_its_start(ctr: Ctr) -> None:
    container = ctr.start("sleep", "300")
    init = ctr.pid(container)
    ctr.node.kill_containerd()
    kill_shim(ctr.node, ctr.environment.runtime, containing=container)
    ctr.node.start()
    until(lambda: not processes.alive(init), "init to be killed")
    assert ctr.status(container) == ""
    ctr.check("containers", "rm", container)
