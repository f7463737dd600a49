"""What a kubelet sets around a rich container: processes, swap, names, groups; and what of it changes while it runs."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import cgroups, rich_images
from tests.integration.images import Entry
from tests.integration.node import Node
from tests.integration.pods import RUNNING, Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import HANDLER, RichPods, configure
from tests.integration.test_cri_containers import limited
from tests.integration.test_rich_application import FOREVER, in_one_place, running
from tests.integration.test_rich_hooks import Hooked
from tests.integration.test_rich_kubelet import EVERY_MODE, each_mode
from tests.integration.test_rich_systemd import SYSTEMD, failed_start
from tests.integration.waiting import until
from tests.root import rootfs_images

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]


# Processes


@contextmanager
def at_most(node: Node, processes: int) -> Iterator[None]:
    """All pods of the node together have no more, as by a kubelet's podPidsLimit on the pod's cgroup."""
    path = cgroups.mount_of("pids") / node.cgroup.lstrip("/") / "pids.max"
    path.write_text(str(processes))
    try:
        yield
    finally:
        path.write_text("max")


# runc's own threads are in the cgroup, too: with so few processes it creates no container.
needs_few = pytest.mark.only(oci="crun")


@needs_few
@pytest.mark.parametrize(
    ("mode", "system", "most"),
    [("systemd", SYSTEMD, 3), ("sbin-init", System("sysvinit"), 2)],
    ids=["systemd", "sbin-init"],
)
def test_a_pod_with_too_few_processes_for_a_boot_is_told_so(
    rich_pods: RichPods, mode: str, system: System, most: int
) -> None:
    """One of them is the sandbox's."""
    container = rich_pods.create(rich_pods.pod(mode, rich='start-timeout = "3s"'), system, "sh", "-c", FOREVER)
    with at_most(rich_pods.node, most):
        message = failed_start(container)
    assert "the limit on the number of processes was reached" in message, message
    assert f"{most} ({cgroups.mount_of('pids')}{rich_pods.node.cgroup}/pids.max)" in message, message


@needs_few
def test_a_pod_with_too_few_processes_for_dumb_init_is_told_so_by_it(rich_pods: RichPods) -> None:
    container = rich_pods.create(rich_pods.pod("dumb-init"), SYSTEMD, "true")
    with at_most(rich_pods.node, 2):
        assert container.start().wait().exit_code == 1
    assert b"Unable to fork" in container.output("stderr")


@pytest.mark.only(oci="runc")
@pytest.mark.parametrize("rich", ['mode = "dumb-init"', "enabled = false"], ids=["rich", "plain"])
def test_a_pod_with_too_few_processes_for_the_oci_runtime_is_told_so(rich_pods: RichPods, rich: str) -> None:
    """Its own count, threads too, while it creates; of its words none is about that."""
    container = rich_pods.create(rich_pods.pod("", rich=rich), SYSTEMD, "true")
    with at_most(rich_pods.node, 3):
        message = failed_start(container)
    path = f"{cgroups.mount_of('pids')}{rich_pods.node.cgroup}/pids.max"
    assert f"; only 3 processes are allowed ({path}), and the OCI runtime's own processes count too" in message, message


# Names and groups


@each_mode
def test_a_pod_may_have_any_name_as_its_hosts(rich_pods: RichPods, mode: str, system: System) -> None:
    """`hostnameOverride`, of as many characters as the kernel takes."""
    name = f"{'a' * 30}.b.{'c' * 31}"
    assert len(name) == 64
    configure(rich_pods.node, f'mode = "{mode}"')
    pod = rich_pods.pods.run(handler=HANDLER, hostname=name)
    container = running(rich_pods.create(pod, system, "sh", "-c", f"echo ready; uname -n; {FOREVER}").start())
    if mode == "systemd":
        until(lambda: container.exec("systemctl", "is-system-running").stdout == b"running\n", "the system to be up")
    assert container.shell("uname -n; cat /proc/sys/kernel/hostname /etc/hostname") == 3 * f"{name}\n"
    until(lambda: container.output() == f"ready\n{name}\nready\n".encode(), "the application's own")


@pytest.mark.only(containerd=("2.1", "2.3", "2.4"))
@pytest.mark.parametrize("policy", [pb.SupplementalGroupsPolicy.Merge, pb.SupplementalGroupsPolicy.Strict])
@each_mode
def test_groups_of_the_image_are_the_pods_only_where_it_says_so(
    rich_pods: RichPods, mode: str, system: System, policy: "pb.SupplementalGroupsPolicy"
) -> None:
    """The application's, an exec's and a pod's own hook's."""
    hooked = Hooked(rich_pods)
    tree = rootfs_images.debian(system.kind, system.suite)
    users, groups = ((tree / "etc" / name).read_text() for name in ("passwd", "group"))
    entries = [
        Entry("etc/passwd", f"{users}worker:x:1000:1000::/:/bin/sh\n".encode(), mode=0o644),
        Entry("etc/group", f"{groups}worker:x:1000:\nextra:x:4321:worker\n".encode(), mode=0o644),
    ]
    image = rich_images.import_variant(rich_pods.node, system, f"{system}-groups", entries)
    context = pb.LinuxContainerSecurityContext(supplemental_groups=[7], supplemental_groups_policy=policy)
    context.run_as_user.value = 1000
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=context))
    about = {"pouchrich.io/prestart": '[{"name": "mine", "command": ["sh", "-c", "id -G >/shared/hook"]}]'}
    container = hooked.create(
        mode, "sh", "-c", f"id -G; {FOREVER}", image=image, config=config, annotations=about
    ).start()
    until(lambda: container.output().endswith(b"ready\n"), "the application to be ready")
    expected = {1000, 7} if policy == pb.SupplementalGroupsPolicy.Strict else {1000, 7, 4321}
    said = (container.output().decode().removesuffix("ready\n"), container.shell("id -G"), hooked.lines("hook")[0])
    assert [set(map(int, one.split())) for one in said] == [expected] * 3


# Limits that change


def limits_of(node: Node, container: Container, name: str) -> set[str]:
    """What the files `name` say in every cgroup that is the container's, its own ones and those of its units."""
    return {
        path.read_text().strip()
        for root in cgroups.hierarchies()
        for path in (root / node.cgroup.lstrip("/")).rglob(name)
        if container.id in str(path)
    }


PIN = (
    "systemctl set-property --runtime system.slice MemoryMax=150M CPUQuota=10% MemorySwapMax=0;"
    " systemctl set-property --runtime cron.service MemoryMax=100M AllowedCPUs=0;"
    " systemctl show -p MemoryMax --value system.slice"
)


def test_no_unit_of_a_container_keeps_a_limit_from_before(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, config=limited(200 << 20)))
    assert container.shell(PIN) == f"{150 << 20}\n"
    for size in (300 << 20, 120 << 20, 400 << 20):
        container.update(pb.LinuxContainerResources(memory_limit_in_bytes=size, cpu_period=100_000, cpu_quota=70_000))
        assert limits_of(rich_pods.node, container, "memory.limit_in_bytes") == {str(size)}
        assert limits_of(rich_pods.node, container, "cpu.cfs_quota_us") == {"70000"}
    container.shell("systemctl restart cron")
    assert limits_of(rich_pods.node, container, "memory.limit_in_bytes") == {str(400 << 20)}


def has_swap_limits() -> bool:
    return (cgroups.mount_of("memory") / "memory.memsw.usage_in_bytes").exists()


@each_mode
def test_swap_is_limited_as_asked_and_follows_a_resize(rich_pods: RichPods, mode: str, system: System) -> None:
    if not has_swap_limits():
        pytest.skip("the kernel limits no swap on cgroup v1")
    config = limited(200 << 20)
    config.linux.resources.memory_swap_limit_in_bytes = 250 << 20
    container = running(rich_pods.create(rich_pods.pod(mode), system, "sh", "-c", FOREVER, config=config).start())
    assert limits_of(rich_pods.node, container, "memory.memsw.limit_in_bytes") == {str(250 << 20)}
    for memory, swap in ((300 << 20, 380 << 20), (150 << 20, 150 << 20)):
        container.update(pb.LinuxContainerResources(memory_limit_in_bytes=memory, memory_swap_limit_in_bytes=swap))
        assert limits_of(rich_pods.node, container, "memory.memsw.limit_in_bytes") == {str(swap)}
        assert limits_of(rich_pods.node, container, "memory.limit_in_bytes") == {str(memory)}


RESIZED_S = 600.0


def resident_kb(pid: int) -> int:
    """The kilobytes of memory that are no file's."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:"))


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_resize_each_second_for_ten_minutes_holds_at_once_and_disturbs_nothing(rich_pods: RichPods) -> None:
    """In each mode, side by side. Of no host with cgroup v1 is a container frozen for it."""
    node = rich_pods.node
    made = [
        running(rich_pods.create(rich_pods.pod(mode), system, "sh", "-c", f"trap 'exit 7' TERM; {FOREVER}").start())
        for mode, system in EVERY_MODE
    ]
    pids = [one.pid() for one in made]
    shims = {shim: resident_kb(shim) for shim in node.shims()}
    halfway: dict[int, int] = {}
    took_s = []
    end = time.monotonic() + RESIZED_S
    for number in itertools.count():
        if (began := time.monotonic()) > end:
            break
        if not halfway and began > end - RESIZED_S / 2:
            halfway = {shim: resident_kb(shim) for shim in shims}
        size, quota = ((120, 50_000), (300, 90_000), (200, 70_000))[number % 3]
        for one in made:
            asked = time.monotonic()
            one.update(
                pb.LinuxContainerResources(memory_limit_in_bytes=size << 20, cpu_period=100_000, cpu_quota=quota)
            )
            took_s.append(time.monotonic() - asked)
            assert limits_of(node, one, "memory.limit_in_bytes") == {str(size << 20)}
            assert limits_of(node, one, "cpu.cfs_quota_us") == {str(quota)}
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    grown = [resident_kb(shim) - before for shim, before in shims.items()]
    grown_since = [resident_kb(shim) - before for shim, before in halfway.items()]
    assert [one.pid() for one in made] == pids
    assert [one.status().state for one in made] == [RUNNING] * 3
    assert made[1].exec("systemctl", "list-units", "--failed", "--no-legend").stdout == b""
    for one in made:
        one.stop(grace_s=20)
        assert one.status().exit_code == 7
    took_s.sort()
    print(
        f"{len(took_s)} updates, median {took_s[len(took_s) // 2] * 1000:.0f} ms,"
        f" longest {took_s[-1] * 1000:.0f} ms; pod servers grew by {grown} kB, {grown_since} in the second half"
    )
    assert max(grown) < 2048, grown
    assert max(grown_since) < 256, grown_since  # first uses are paid for by then
