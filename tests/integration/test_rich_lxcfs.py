"""lxcfs's files over those of /proc, in pods of a node where it is alive, dead or absent."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.integration import binaries, processes
from tests.integration.node import Node
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_cri_containers import limited
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

LIMIT_KB = 160 << 10
SEEN = "sed -n 's/^MemTotal: *//p' /proc/meminfo; grep -c ' fuse.lxcfs ' /proc/self/mountinfo || true"
MODES = ["dumb-init", "systemd", pytest.param("sbin-init", marks=pytest.mark.full)]


def run(rich_pods: RichPods, mode: str, setting: str = '"auto"') -> Container:
    """A container with a memory limit, whose application says what it sees, and stays."""
    system = System("sysvinit" if mode == "sbin-init" else "systemd")
    pod = rich_pods.pod(mode, rich=f"lxcfs = {setting}")
    config = limited(LIMIT_KB << 10)
    container = rich_pods.create(pod, system, "sh", "-c", f"{SEEN}; {FOREVER}", config=config).start()
    until(lambda: b"ready\n" in container.output(), "the application to have said what it sees", timeout_s=20)
    return container


def seen(output: str) -> tuple[int, int]:
    """The kilobytes of memory, and the number of lxcfs's files."""
    kilobytes, _, mounts = output.split()[:3]
    return int(kilobytes), int(mounts)


@pytest.fixture
def lxcfs(node: Node) -> Iterator[int]:
    """The pid of the node's lxcfs, for the time of the test; use it before the pods."""
    try:
        binaries.lxcfs()
    except FileNotFoundError:
        pytest.skip("lxcfs is not installed")
    with node.lxcfs() as pid:
        yield pid


@everywhere
@pytest.mark.parametrize("mode", MODES)
def test_where_lxcfs_is_alive_a_pod_sees_its_own_limits(lxcfs: int, rich_pods: RichPods, mode: str) -> None:
    container = run(rich_pods, mode)
    kilobytes, mounts = seen(container.output().decode())
    assert kilobytes == LIMIT_KB
    assert mounts >= 6
    assert seen(container.shell(SEEN)) == (kilobytes, mounts)
    assert int(container.shell("cut -d. -f1 /proc/uptime")) < 120
    container.stop(grace_s=20)
    assert container.status().exit_code == 143


def test_a_node_may_do_without_the_lxcfs_that_it_has(lxcfs: int, rich_pods: RichPods) -> None:
    kilobytes, mounts = seen(run(rich_pods, "systemd", "false").output().decode())
    assert kilobytes > LIMIT_KB
    assert mounts == 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_an_lxcfs_that_does_not_answer_is_left_out_with_a_warning(
    lxcfs: int, rich_pods: RichPods, end: signal.Signals
) -> None:
    """Its mount is still there, and whoever looks into it gets an error, or hangs."""
    os.kill(lxcfs, end)
    until(lambda: processes.state(lxcfs) in ("", "T"), "lxcfs to stand still")
    container = run(rich_pods, "systemd")
    assert seen(container.output().decode())[1] == 0
    warning = f"container {container.id}: lxcfs: /var/lib/lxcfs does not answer, skipped"
    until(lambda: warning in rich_pods.node.log.read_text(), "the warning")


@pytest.mark.parametrize("setting", ["true", '"auto"'])
def test_where_there_is_no_lxcfs_only_one_that_was_asked_for_is_worth_a_warning(
    rich_pods: RichPods, setting: str
) -> None:
    container = run(rich_pods, "systemd", setting)
    assert seen(container.output().decode())[1] == 0
    container.stop(grace_s=20)
    warning = f"container {container.id}: lxcfs: found no fuse.lxcfs mount at /var/lib/lxcfs, skipped"
    assert (warning in rich_pods.node.log.read_text()) == (setting == "true")


@pytest.mark.parametrize("mode", MODES)
def test_what_a_pod_sees_follows_its_limits(lxcfs: int, rich_pods: RichPods, mode: str) -> None:
    container = run(rich_pods, mode)
    for kilobytes in (2 * LIMIT_KB, LIMIT_KB):
        container.update(limited(kilobytes << 10).linux.resources)
        assert seen(container.shell(SEEN))[0] == kilobytes
