"""What today's kubelets ask of rich containers: restarts in place, names, environments, resizes."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import cgroups
from tests.integration.pods import RUNNING, Container, Pod
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, variables
from tests.integration.test_cri_containers import limited
from tests.integration.test_rich_application import FOREVER, in_one_place, running
from tests.integration.test_rich_hooks import hook
from tests.integration.test_rich_systemd import SYSTEMD

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

EVERY_MODE = [("dumb-init", SYSTEMD), ("systemd", SYSTEMD), ("sbin-init", System("sysvinit"))]
each_mode = pytest.mark.parametrize(("mode", "system"), EVERY_MODE, ids=[mode for mode, _ in EVERY_MODE])


def restart_all(rich_pods: RichPods, pod: Pod, rounds: int, directory: Path) -> None:
    """As kubelet's RestartAllContainers: all containers of the pod are removed and made anew, the sandbox stays."""
    node = rich_pods.node
    servers = node.shims(containing=pod.id)
    for number in range(1, rounds + 1):
        made = [rich_pods.create(pod, SYSTEMD, "sh", "-c", FOREVER, name=name).start() for name in ("app", "side")]
        for container in made:
            running(container)
        for container in reversed(made):
            container.stop(grace_s=20)
            container.remove()
        for name in ("before", "after"):
            assert sorted((directory / name).read_text().split()) == sorted(number * ["app", "side"])
        assert not [container.id for container in made if node.run_directory(container.id).exists()]
        assert list(node.records()) == []
    assert len(servers) == 1
    assert node.shims(containing=pod.id) == servers


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mode", "rounds"),
    [
        ("dumb-init", 2),
        pytest.param("dumb-init", 20, marks=pytest.mark.full),
        pytest.param("systemd", 20, marks=pytest.mark.full),
    ],
)
def test_of_all_containers_restarted_in_place_each_has_its_hooks_once(
    rich_pods: RichPods, mode: str, rounds: int
) -> None:
    directory = Path(rich_pods.node.base, f"restarts-{time.monotonic_ns()}")
    directory.mkdir()
    more = "".join(
        hook(stage, "host", f"cat >/dev/null; echo $POUCHRICH_NAME >>{directory}/{name}")
        for stage, name in (("prestart", "before"), ("poststop", "after"))
    )
    restart_all(rich_pods, rich_pods.pod(mode, more=more), rounds, directory)


@each_mode
def test_a_sidecar_starts_first_stops_last_and_its_exit_code_is_its_own(
    rich_pods: RichPods, mode: str, system: System
) -> None:
    """As the kubelet has an init container with `restartPolicy: Always`: its start and its startup probe come first."""
    directory = Path(rich_pods.node.base, f"sidecar-{time.monotonic_ns()}")
    directory.mkdir()
    ends = hook("poststop", "host", f"cat >/dev/null; echo $POUCHRICH_NAME $POUCHRICH_EXIT_CODE >>{directory}/ends")
    pod = rich_pods.pod(mode, more=ends)
    serve = "trap 'exit 3' TERM; " + FOREVER

    def sidecar(script: str) -> Container:
        made = running(rich_pods.create(pod, system, "sh", "-c", script, name="proxy").start())
        assert made.shell("echo probed") == "probed\n"
        return made

    first = sidecar("until [ -e /tmp/fail ]; do echo ready; sleep 0.1; done; exit 9")
    app = running(rich_pods.create(pod, system, "sh", "-c", f"trap 'exit 0' TERM; {FOREVER}", name="app").start())
    pid = app.pid()
    first.shell("touch /tmp/fail")
    assert first.wait().exit_code == 9
    first.remove()
    second = sidecar(serve)
    assert (app.status().state, app.pid()) == (RUNNING, pid)
    app.stop(grace_s=20)
    assert (app.status().exit_code, app.status().reason) == (0, "Completed")
    assert second.status().state == RUNNING
    second.stop(grace_s=20)
    assert second.status().exit_code == 3
    assert (directory / "ends").read_text() == "proxy 9\napp 0\nproxy 3\n"


def exits_by_rule(rich_pods: RichPods, mode: str, system: System, codes: Sequence[int]) -> list[int]:
    """The exit codes of a container that is made again in its pod, as by `restartPolicyRules`, until one is the last.

    Its runs end with `codes`, one after another.
    """
    directory = Path(rich_pods.node.base, f"rules-{time.monotonic_ns()}")
    directory.mkdir()
    config = pb.ContainerConfig(mounts=[pb.Mount(container_path="/shared", host_path=str(directory))])
    script = "echo run >>/shared/runs; set -- {}; shift $(($(wc -l </shared/runs) - 1)); exit $1"
    command = ("sh", "-c", script.format(" ".join(map(str, codes))))
    pod = rich_pods.pod(mode)
    found = []
    while len(found) < len(codes):
        container = rich_pods.create(pod, system, *command, config=config).start()
        found.append(container.wait().exit_code)
        container.remove()
        if found[-1] == codes[-1]:
            break
    return found


@each_mode
def test_a_restart_rule_goes_by_the_applications_exit_code(rich_pods: RichPods, mode: str, system: System) -> None:
    assert exits_by_rule(rich_pods, mode, system, (42, 7)) == [42, 7]


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("mode", "system"),
    [
        *EVERY_MODE,
        ("sbin-init", System("openrc")),
        ("sbin-init", System("busybox")),
        ("sbin-init", SYSTEMD),
        ("systemd", System("systemd", "bullseye")),
        ("systemd", System("systemd", "trixie")),
        ("systemd", System("systemd", "sid")),
    ],
    ids=str,
)
def test_a_restart_rule_sees_any_exit_code_under_any_init(rich_pods: RichPods, mode: str, system: System) -> None:
    codes = (1, 2, 42, 64, 100, 125, 126, 127, 128, 130, 137, 143, 200, 254, 255, 0)
    assert exits_by_rule(rich_pods, mode, system, codes) == list(codes)


@each_mode
def test_the_name_of_the_pod_is_that_of_its_containers(rich_pods: RichPods, mode: str, system: System) -> None:
    pod = rich_pods.pod(mode)
    container = running(rich_pods.create(pod, system, "sh", "-c", FOREVER, config=variables({"HOSTNAME": "x"})).start())
    assert container.shell("cat /proc/sys/kernel/hostname /etc/hostname") == 2 * f"{pod.config.hostname}\n"


@each_mode
def test_an_exec_has_the_environment_of_the_pod_and_its_own(rich_pods: RichPods, mode: str, system: System) -> None:
    config = variables({"OF_THE_POD": "a b"})
    container = running(rich_pods.create(rich_pods.pod(mode), system, "sh", "-c", FOREVER, config=config).start())
    assert container.shell("echo $OF_THE_POD $OWN") == "a b\n"
    assert container.exec("env", "OWN=c", "sh", "-c", "echo $OF_THE_POD $OWN").stdout == b"a b c\n"


@each_mode
def test_a_resize_changes_the_limits_that_hold(rich_pods: RichPods, mode: str, system: System) -> None:
    container = running(
        rich_pods.create(rich_pods.pod(mode), system, "sh", "-c", FOREVER, config=limited(200 << 20)).start()
    )
    for size in (300 << 20, 150 << 20):
        container.update(pb.LinuxContainerResources(memory_limit_in_bytes=size, cpu_period=100_000, cpu_quota=50_000))
        held = container.stats().memory
        assert held.usage_bytes.value < size
        found = {
            path.read_text().strip()
            for root in cgroups.hierarchies()
            for path in (root / rich_pods.node.cgroup.lstrip("/")).rglob("memory.limit_in_bytes")
            if container.id in str(path)
        } | {
            path.read_text().strip()
            for root in cgroups.hierarchies()
            for path in (root / rich_pods.node.cgroup.lstrip("/")).rglob("memory.max")
            if path.parent.name == container.id
        }
        assert found == {str(size)}
