"""Many systemd pods at once, as a rollout makes them: none is cut off while it makes progress, none jumps the queue."""

import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime import inotify
from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import FOREVER, in_one_place
from tests.integration.test_rich_mandatory import inspected
from tests.integration.test_rich_systemd import ONE_SHOT
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")


@pytest.fixture
def room() -> Iterator[None]:
    """Each systemd takes some of root's 128 inotify instances."""
    before = INSTANCES.read_text()
    INSTANCES.write_text("8192")
    yield
    INSTANCES.write_text(before)


def waiting(rich_pods: RichPods, count: int, rich: str = "") -> list[Container]:
    """Containers of as many pods, ready to be started."""
    rich_images.import_system(rich_pods.node, SYSTEMD)
    pods = [rich_pods.pod(rich=rich) for _ in range(count)]
    return [rich_pods.create(pod, SYSTEMD, "sh", "-c", FOREVER) for pod in pods]


def started(container: Container) -> tuple[float, str]:
    """The seconds that Start took, and the error with which it failed. kubelet waits two minutes by default."""
    began = time.monotonic()
    client = container.pod.pods.client
    try:
        client.call(pb.StartContainerRequest(container_id=container.id), pb.StartContainerResponse, timeout_s=600)
    except CallFailed as error:
        return time.monotonic() - began, error.message
    return time.monotonic() - began, ""


def all_at_once(containers: list[Container]) -> list[tuple[float, str]]:
    with ThreadPoolExecutor(len(containers)) as pool:
        return list(pool.map(started, containers))


def busy(rich_pods: RichPods, seconds: int) -> str:
    """An image whose boot takes a processor for so long."""
    script = f"end=$(($(date +%%s) + {seconds})); while [ $(date +%%s) -lt $end ]; do :; done"
    unit = ONE_SHOT.format(more="", command=f"/bin/sh -c '{script.replace('$', '$$')}'")
    entries = [
        Entry("etc/systemd/system/busy.service", unit.encode()),
        Entry("etc/systemd/system/sysinit.target.d/busy.conf", b"[Unit]\nRequires=busy.service\nAfter=busy.service\n"),
    ]
    return rich_images.import_variant(rich_pods.node, SYSTEMD, f"busy-{seconds}", entries)


def test_a_boot_that_makes_progress_is_not_cut_off_like_one_that_hangs(rich_pods: RichPods) -> None:
    pod = rich_pods.pod(rich='start-timeout = "2s"')
    container = rich_pods.create(pod, busy(rich_pods, 6), "sh", "-c", FOREVER)
    seconds, message = started(container)
    assert message == ""
    assert seconds > 5


def test_a_boot_waits_for_its_turn_is_seen_to_and_answers_a_signal(rich_pods: RichPods) -> None:
    """The one before it is ended by the bound that holds for who makes progress, however busy it is."""
    image = busy(rich_pods, 300)
    rich = 'boot-parallel = 1\nstart-timeout = "2s"\nstart-timeout-max = "10s"'
    containers = [
        rich_pods.create(rich_pods.pod(rich=rich), one, "sh", "-c", FOREVER) for one in (image, *[SYSTEMD] * 2)
    ]

    def state(container: Container) -> str:
        return str(inspected(container)["state"])

    with ThreadPoolExecutor(3) as pool:
        starting = []
        for container, expected in zip(containers, ("booting", "waiting to boot", "waiting to boot"), strict=True):
            starting.append(pool.submit(started, container))
            until(lambda: container.id in rich_pods.node.ctr("-n", "k8s.io", "tasks", "ls"), "the task")  # noqa: B023
            until(lambda: state(container) == expected, expected)  # noqa: B023
        rich_pods.node.ctr("-n", "k8s.io", "tasks", "kill", "--signal", "TERM", containers[1].id)
        assert "a signal ended the start while it waited for its turn" in starting[1].result(timeout=10)[1]
        assert not starting[0].done()
        assert "not within start-timeout-max, 10 s" in starting[0].result(timeout=30)[1]
        assert starting[2].result(timeout=30)[1] == ""
    assert state(containers[2]) == "running"


def test_a_namespace_whose_boots_are_many_and_slow_does_not_keep_another_s_from_booting(rich_pods: RichPods) -> None:
    image = busy(rich_pods, 300)
    rich = 'boot-parallel = 2\nstart-timeout-max = "5m"'

    def made(namespace: str, system: System | str) -> Container:
        return rich_pods.create(rich_pods.pod(rich=rich, namespace=namespace), system, "sh", "-c", FOREVER)

    noisy, quiet = [made("noisy", image) for _ in range(3)], made("quiet", SYSTEMD)
    with ThreadPoolExecutor(4) as pool:
        starting = []
        for container, expected in zip(noisy, ("booting", "booting", "waiting to boot"), strict=True):
            starting.append(pool.submit(started, container))
            until(lambda: inspected(container)["state"] == expected, expected)  # noqa: B023
        assert started(quiet)[1] == ""
        assert [inspected(container)["state"] for container in noisy] == ["booting", "booting", "waiting to boot"]
        for container in noisy:
            rich_pods.node.ctr("-n", "k8s.io", "tasks", "kill", "--signal", "TERM", container.id)
        assert all(one.result(timeout=60)[1] for one in starting)


@pytest.mark.parametrize("policy", ["warn", "refuse"])
def test_a_systemd_that_would_take_the_last_inotify_instances_is_warned_about_or_refused(
    rich_pods: RichPods, policy: str
) -> None:
    """The limit is the machine's, so it is lowered for a moment only, and not below what is in use."""
    rich_images.import_system(rich_pods.node, SYSTEMD)
    container = rich_pods.create(rich_pods.pod(rich=f'inotify = "{policy}"'), SYSTEMD, "sh", "-c", FOREVER)
    before = INSTANCES.read_text()
    INSTANCES.write_text(str(inotify.used().instances + inotify.PER_SYSTEMD + inotify.RESERVE // 2))
    try:
        _, message = started(container)
    finally:
        INSTANCES.write_text(before)
    if policy == "refuse":
        assert all(word in message for word in (inotify.INSTANCES, "rich.inotify")), message
    else:
        assert message == ""
        assert any(inotify.INSTANCES in warning for warning in inspected(container)["warnings"])


@pytest.mark.full
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("count", [1, 20, 50])
def test_a_rollout_of_systemd_pods_comes_up_whole(rich_pods: RichPods, room: None, count: int) -> None:
    containers = waiting(rich_pods, count, os.environ.get("ROLLOUT_RICH", ""))
    began = time.monotonic()
    results = all_at_once(containers)
    took, times = time.monotonic() - began, sorted(seconds for seconds, _ in results)
    failed = [message for _, message in results if message]
    alive = [one for one, (_, message) in zip(containers, results, strict=True) if not message]
    cpu = [one.stats().cpu.usage_core_nano_seconds.value / 1e9 for one in alive]
    print(
        f"{count} at once: {took:.1f} s in all, each {times[0]:.1f} to {times[-1]:.1f} s,"
        f" median {statistics.median(times):.1f} s; {len(failed)} failed;"
        f" processor time of a container {statistics.median(cpu):.2f} s"
    )
    assert failed == []
