"""What a kubelet does to a container that still boots: it gives the start up, or removes pod or container meanwhile.

containerd answers a StopContainer of a container that starts without doing anything, refuses its RemoveContainer, and
passes over it in StopPodSandbox and RemovePodSandbox (CRI plugin, container_stop.go, container_remove.go). The end of
the pod's sandbox is then all that a shim hears of.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import EXITED, Container, Pod
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import everywhere, in_one_place
from tests.integration.test_rich_hooks import Hooked, hook, sleeping
from tests.integration.test_rich_systemd import failed_start, stuck
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

TASKS = ("-n", "k8s.io", "tasks")
SOON_S = 20.0
"""Well below rich.start-timeout, and enough for a busy machine."""


@pytest.fixture
def hooked(rich_pods: RichPods) -> Hooked:
    return Hooked(rich_pods)


@contextmanager
def booting(container: Container) -> Iterator["Future[str]"]:
    """While `container` boots, in a StartContainer that fails: the message it fails with."""
    ctr = container.pod.pods.node.ctr
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(failed_start, container)
        until(lambda: container.id in ctr(*TASKS, "ls"), "the task to be there")
        until(lambda: len(ctr(*TASKS, "ps", container.id).splitlines()) > 2, "the boot to have begun")
        yield starting


def ends_soon(starting: "Future[str]") -> str:
    began = time.monotonic()
    message = starting.result(timeout=60)
    assert time.monotonic() - began < SOON_S, message
    return message


def removed(pod: Pod) -> bool:
    """Whether the pod could be removed, which a kubelet tries until it can."""
    try:
        pod.remove()
    except CallFailed:
        return False
    return True


@everywhere
def test_a_pod_that_is_removed_while_a_container_boots_is_gone(rich_pods: RichPods, hooked: Hooked) -> None:
    container = hooked.create("systemd", "true", image=stuck(rich_pods), more=hooked.poststop())
    with booting(container) as starting:
        until(lambda: removed(container.pod), "the pod to be removed", timeout_s=SOON_S)
        assert "the pod's sandbox ended" in ends_soon(starting)
    assert container.id not in rich_pods.node.ctr(*TASKS, "ls")
    hooked.ran_once("128 StartFailed")


def test_a_container_that_boots_is_not_stopped_for_its_own_sake_and_goes_with_its_pod(rich_pods: RichPods) -> None:
    container = rich_pods.create(rich_pods.pod(), stuck(rich_pods), "true")
    with booting(container) as starting:
        container.stop(grace_s=1)
        with pytest.raises(CallFailed, match="starting"):
            container.remove()
        assert not starting.done()
        container.pod.stop()
        ends_soon(starting)
    status = container.status()
    assert (status.state, status.exit_code, status.reason) == (EXITED, 128, "StartError")
    container.remove()


@pytest.mark.parametrize("where", ["container", "host"])
def test_a_prestart_hook_goes_with_its_pod(rich_pods: RichPods, hooked: Hooked, where: str) -> None:
    more = hook("prestart", where, f"echo >{hooked.directory if where == 'host' else '/shared'}/began; sleep 987")
    container = hooked.create("dumb-init", "touch", "/shared/ran", more=more)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(failed_start, container)
        until(lambda: (hooked.directory / "began").exists(), "the hook to run")
        until(lambda: removed(container.pod), "the pod to be removed", timeout_s=SOON_S)
        # And that PID 1 ended, or that its end killed the hook: whichever was seen first.
        assert "the pod's sandbox ended while the container started" in ends_soon(starting)
    assert not sleeping(rich_pods.node)
    assert not (hooked.directory / "ran").exists()


def test_a_start_that_the_kubelet_gives_up_ends_the_boot(rich_pods: RichPods, hooked: Hooked) -> None:
    """As when the pod is deleted, or after runtimeRequestTimeout."""
    container = hooked.create("systemd", "true", image=stuck(rich_pods), more=hooked.poststop())
    request = pb.StartContainerRequest(container_id=container.id)
    with pytest.raises(CallFailed, match=r"DEADLINE_EXCEEDED|CANCELLED"):  # as containerd or the client is first
        container.pod.pods.client.call(request, pb.StartContainerResponse, timeout_s=2)
    until(lambda: container.status().state == EXITED, "the container to have ended", timeout_s=SOON_S)
    assert container.status().reason == "StartError"
    container.remove()
    hooked.ran_once("128 StartFailed")
