"""What root in a container may do with the cgroups that its systemd needs, and what is left of them."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.cgroup import unmounted
from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import cgroups, processes, rich_images
from tests.integration.images import Entry
from tests.integration.pods import EXITED, Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import HANDLER, RichPods, configure
from tests.integration.test_crashes import kill_shim
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_dumb_init import refused
from tests.integration.test_rich_hooks import hook
from tests.integration.waiting import until
from tests.root import rootfs_images

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
OWN = "$([ -e /sys/fs/cgroup/cgroup.procs ] && echo /sys/fs/cgroup || echo /sys/fs/cgroup/systemd)"
MANY = """
use strict; chdir $ARGV[0] or die "$ARGV[0]: $!";
my ($flat, $deep) = (0, 0);
for (1 .. $ARGV[1]) { mkdir "flat-$_" or last; $flat++ }
if ($ARGV[2] ne 'keep') { rmdir "flat-$_" for 1 .. $flat }
for (1 .. $ARGV[3]) { mkdir "deep" or last; chdir "deep" or last; $deep++ }
print "$flat $deep\\n";
"""


def made(container: Container, flat: int, deep: int, *, keep: bool) -> tuple[int, int]:
    """How many cgroups root could make side by side, kept if wished, and then one below the other, in its own."""
    words = f"{flat} {'keep' if keep else 'remove'} {deep}"
    side, below = container.shell(f"cat >/many.pl <<'EOF'\n{MANY}\nEOF\nperl /many.pl {OWN} {words}").split()
    return int(side), int(below)


def in_the_tree(container: Container) -> list[str]:
    """The container's cgroups in the v2 tree, mounted on this host or not: from the root."""
    with unmounted.mounted() as root:
        return [found for found, _, _ in os.walk(root) if container.id in found]


def stopped(container: Container) -> float:
    """Have the container end and be removed; how many seconds that took from its end."""
    os.kill(container.pid(), 9)
    until(lambda: container.status().state == EXITED, "the container to end")
    began = time.monotonic()
    container.remove()
    return time.monotonic() - began


def in_its_pid_namespace(init: int) -> list[int]:
    """Host pids."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == os.readlink(f"/proc/{init}/ns/pid"):
                found.append(int(name))
    return found


def cgroups_of(pid: int) -> list[str]:
    """The lines of /proc/PID/cgroup."""
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()


@everywhere
def test_root_makes_no_more_cgroups_than_the_node_allows_and_all_go_with_the_container(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    side, _ = made(container, 3000, 0, keep=False)
    assert 500 < side <= 1024  # less what systemd has made
    _, below = made(container, 0, 3000, keep=False)
    assert 0 < below <= 8
    made(container, 900, 8, keep=True)
    assert in_the_tree(container)
    assert stopped(container) < 10
    assert in_the_tree(container) == []


def test_nothing_that_the_host_would_run_can_be_asked_for(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    tried = container.shell(
        "for one in $(find /sys/fs/cgroup -name notify_on_release -o -name release_agent); do"
        " (echo 1 >$one) 2>/dev/null && echo wrote $one; done; true"
    )
    assert tried == ""


def test_a_process_that_is_executed_in_the_container_is_in_its_cgroup(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    init = container.pid()
    with container.open_exec("sleep", "1000"):

        def executed() -> list[int]:
            return [pid for pid in in_its_pid_namespace(init) if processes.command(pid) == "sleep 1000"]

        until(executed, "it to run")
        (pid,) = executed()
        assert container.id in next(line for line in cgroups_of(pid) if line.startswith("0::"))
        os.kill(pid, 9)


@everywhere
def test_the_limits_that_v1_has_can_still_be_read_in_the_container(rich_pods: RichPods) -> None:
    resources = pb.LinuxContainerResources(memory_limit_in_bytes=256 << 20)
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(resources=resources))
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, config=config))
    assert container.shell("cat /sys/fs/cgroup/memory/memory.limit_in_bytes") == f"{256 << 20}\n"
    assert container.exec("sh", "-c", "echo 0 >/sys/fs/cgroup/memory/memory.limit_in_bytes").exit_code != 0


@pytest.mark.only(oci="runc")
@pytest.mark.usually("1.6-runc-pouchrich")
def test_limits_stand_where_the_node_looks_for_them_too_and_an_update_changes_both(rich_pods: RichPods) -> None:
    """On a hybrid host without nsdelegate the container is one level below its cgroupsPath."""

    def resources(memory_mib: int, cpus: str, percent: int) -> pb.LinuxContainerResources:
        return pb.LinuxContainerResources(
            memory_limit_in_bytes=memory_mib << 20,
            cpu_shares=percent * 10,
            cpu_period=100_000,
            cpu_quota=percent * 1000,
            cpuset_cpus=cpus,
        )

    def limits(directory: str) -> tuple[int, int, int, str]:
        def read(controller: str, name: str) -> str:
            return (cgroups.mount_of(controller) / directory.lstrip("/") / name).read_text().strip()

        memory, shares = int(read("memory", "memory.limit_in_bytes")), int(read("cpu", "cpu.shares"))
        quota = int(read("cpu", "cpu.cfs_quota_us"))
        return memory >> 20, shares // 10, quota // 1000, read("cpuset", "cpuset.cpus")

    wanted = pb.ContainerConfig(linux=pb.LinuxContainerConfig(resources=resources(128, "0", 50)))
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, config=wanted))
    lower = next(line.split(":", 2)[2] for line in cgroups_of(container.pid()) if ":memory:" in line)
    if not lower.endswith("/pouchrich"):
        pytest.skip("this host needs no second level")
    above = lower.removesuffix("/pouchrich")
    assert limits(above) == limits(lower) == (128, 50, 50, "0")
    for memory_mib, cpus, percent in ((256, "0-1", 150), (96, "1", 20)):
        container.update(resources(memory_mib, cpus, percent))
        assert limits(above) == limits(lower) == (memory_mib, percent, percent, cpus)
    found = container.stats()
    assert 0 < found.memory.working_set_bytes.value < 96 << 20


def test_after_a_killed_pod_server_no_cgroup_is_left(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    made(container, 900, 8, keep=True)
    kill_shim(rich_pods.node, "pouchrich", containing=container.info()["sandboxID"])
    until(lambda: container.status().state == EXITED, "containerd to notice")
    until(lambda: in_the_tree(container) == [], "the cgroups to go")


# A node whose kubelet has a slice for each pod


@pytest.fixture
def slice_of_pods(rich_pods: RichPods) -> Iterator[str]:
    """A name of such a slice; what was made of it is removed with the pods."""
    name = f"pouchslice{os.getpid()}.slice"
    yield f"/pouchslices/{name}"
    assert rich_pods.pods.remove_all() == []
    left = [path for top in cgroups.hierarchies() for path in top.glob(f"{name}*")]
    for path in left:
        path.rmdir()
    assert left == []


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs on this host")
@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_where_no_systemd_runs_a_slice_is_a_name_as_for_containerds_own_shim(
    rich_pods: RichPods, slice_of_pods: str, mode: str
) -> None:
    configure(rich_pods.node, f'mode = "{mode}"')
    pod = rich_pods.pods.run(handler=HANDLER, cgroup_parent=slice_of_pods)
    container = running(rich_pods.create(pod, SYSTEMD, "sh", "-c", FOREVER).start())
    name = slice_of_pods.rpartition("/")[2]
    assert f"/{name}:cri-containerd:{container.id}" in cgroups.of_process(container.pid(), "memory").as_posix()
    container.stop(grace_s=20)
    assert container.status().exit_code == 143


# name=systemd of cgroup v1, for a systemd that knows nothing else


@pytest.fixture
def old(rich_pods: RichPods) -> str:
    """An image whose systemd says that it is of release 219. It is a later one, which works there as well."""
    tree = rootfs_images.debian("systemd", "bookworm")
    program = (tree / "usr/lib/systemd/systemd").read_bytes().replace(b"shared-252.so", b"shared-219.so")
    library = next(tree.glob("usr/lib/*/systemd/libsystemd-shared-252.so"))
    name = str(library.relative_to(tree)).replace("252", "219")
    return rich_images.import_variant(
        rich_pods.node,
        SYSTEMD,
        "systemd-219",
        [Entry("usr/lib/systemd/systemd", program), Entry(name, link=library.name)],
    )


def test_a_systemd_that_knows_v1_alone_is_refused_unless_the_node_allows_it(rich_pods: RichPods, old: str) -> None:
    pod = rich_pods.pod(rich="strict = true")
    message = refused(rich_pods.create(pod, old, "true"))
    assert "systemd 219 of the image cannot use cgroup v2" in message
    assert "the kernel limits neither the number of cgroups nor their memory" in message
    assert 'rich.cgroup-v1 = allow (found "refuse"' in message


def test_where_it_is_allowed_what_it_leaves_holds_up_no_delete(rich_pods: RichPods, old: str) -> None:
    container = running(rich_pods.run(old, "sh", "-c", FOREVER, rich='cgroup-v1 = "allow"'))
    own = Path(f"/proc/{container.pid()}/root/sys/fs/cgroup/systemd")
    assert made(container, 5000, 3000, keep=True) == (5000, 3000)
    top = own.stat().st_ino
    assert stopped(container) < 10
    assert not [found for found, _, _ in os.walk("/sys/fs/cgroup/systemd") if os.stat(found).st_ino == top]


@everywhere
@pytest.mark.parametrize("mode", ["dumb-init", "sbin-init"])
def test_a_subtree_is_given_on_cgroup_v2_alone_and_else_refused_with_the_reason(rich_pods: RichPods, mode: str) -> None:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("hack/vm/delegate.py has what it is given on such a host")
    pod = rich_pods.pod(mode, rich='cgroup = "delegate"')
    image = System("busybox")
    message = refused(rich_pods.create(pod, image, "true"))
    assert (
        "/etc/pouchrich/test.toml: rich.cgroup: found delegate, allowed on this host only pod: its cgroups are"
        in message
    )
    assert rich_pods.create(rich_pods.pod(mode), image, "true", name="again").start().wait(timeout_s=20).exit_code == 0


def test_systemd_has_its_own_cgroups_whatever_rich_cgroup_says(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, rich='cgroup = "delegate"'))
    assert made(container, 3, 2, keep=False) == (3, 2)


def test_a_container_that_freezes_itself_ends_all_the_same(rich_pods: RichPods) -> None:
    """An OCI runtime that is to execute something in it stands in its cgroup, and is frozen with it."""
    ran = rich_pods.node.base / f"ran-{time.monotonic_ns()}"
    more = hook("poststop", "host", f"cat >/dev/null; touch {ran}")
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, more=more))
    container.shell(f"(sleep 1; echo 1 >{OWN}/cgroup.freeze) >/dev/null 2>&1 &")

    def is_frozen() -> bool:
        with unmounted.mounted() as root:
            own = [one for one, _, _ in os.walk(root) if container.id in one and one.endswith(f"/{unmounted.INNER}")]
            return any("frozen 1" in Path(one, "cgroup.events").read_text() for one in own)

    with ThreadPoolExecutor(1) as pool:
        until(is_frozen, "the container to have frozen itself")
        probe = pool.submit(container.exec, "true", timeout_s=60)
        until(
            lambda: len(in_the_tree(container)) > 0 and _is_executing(rich_pods, container), "the OCI runtime to be run"
        )
        container.stop(grace_s=1)
        assert container.status().state == EXITED
        assert ran.exists()
        with suppress(CallFailed):
            probe.result(timeout=20)


def _is_executing(rich_pods: RichPods, container: Container) -> bool:
    return any(
        "exec" in processes.command(pid).split() and container.id in processes.command(pid)
        for pid in rich_pods.node.below()
    )
