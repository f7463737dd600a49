"""The further containers of a pod, which containerd 2.0 and later connects to the pod's server by itself."""

import json
import os
import tempfile
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import leaks, processes
from tests.integration.binaries import Environment
from tests.integration.ctr import Ctr
from tests.integration.pods import RUNNING, Container, Pod, Pods
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_crashes import kill_shim
from tests.integration.test_cri_containers import FOREVER
from tests.integration.test_events import Listener, is_subscribed
from tests.integration.test_rich_hooks import hook
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich", containerd="2.1")]

NAMES = ("first", "second", "third")
OURS = Path("/run/pouchrich/pods/k8s.io")


def given(pods: Pods, identity: str) -> Path:
    """The bundle that containerd has made."""
    return pods.node.base / "state/io.containerd.runtime.v2.task/k8s.io" / identity


def hooked(rich_pods: RichPods, mode: str) -> tuple[Pod, list[Container], Path]:
    """A pod of NAMES, which run for ever, and the directory in which their poststop hooks leave a line each."""
    shared = Path(tempfile.mkdtemp(prefix="shared-", dir=rich_pods.node.base))
    shared.chmod(0o777)
    told = "$POUCHRICH_NAME $POUCHRICH_EXIT_CODE $POUCHRICH_EXIT_REASON"
    more = hook("poststop", "host", f"echo {told} >>{shared}/host")
    more += hook("poststop", "container", f"sleep 0.5; echo {told} >>/shared/container")
    pod = rich_pods.pod(mode, more=more)
    config = pb.ContainerConfig(mounts=[pb.Mount(container_path="/shared", host_path=str(shared))])
    script = "touch /shared/$HOSTNAME-runs; exec sleep 1000"
    containers = [
        rich_pods.create(pod, System("systemd"), "sh", "-c", script, config=config, name=name).start() for name in NAMES
    ]
    return pod, containers, shared


def lines(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines()) if path.exists() else []


KILLED = [f"{name} 137 ShimKilled" for name in NAMES]


def test_containerd_runs_no_start_for_a_member(pods: Pods) -> None:
    pod = pods.run()
    container = pod.run(*FOREVER)
    said = json.loads((given(pods, pod.id) / "bootstrap.json").read_text())
    assert (said["version"], said["protocol"]) == (3, "ttrpc")
    assert (given(pods, container.id) / "sandbox").read_text() == pod.id
    assert (given(pods, container.id) / "address").read_text() == (given(pods, pod.id) / "address").read_text()
    assert pods.node.bundle_of(container.id) == OURS / pod.id / container.id


def test_a_members_root_is_seen_in_containerds_bundle_and_no_longer_than_it_is(pods: Pods) -> None:
    container = pods.run().run("sh", "-c", "echo here >/seen; " + " ".join(FOREVER))
    root = f"/proc/{pods.node.pid}/root{given(pods, container.id)}/rootfs"
    until(lambda: os.path.exists(f"{root}/seen"), "the container's file")
    assert Path(root, "seen").read_text() == "here\n"
    container.stop(0)
    until(lambda: not os.path.exists(root), "the bundle to go")
    assert not (OURS / container.pod.id).exists()


@pytest.mark.parametrize("mode", ["dumb-init", "systemd"])
def test_the_members_of_a_killed_server_are_ended_and_their_hooks_run(
    rich_pods: RichPods, environment: Environment, mode: str
) -> None:
    """containerd removes their bundles meanwhile, and calls nobody for them."""
    node = rich_pods.node
    ctr = Ctr(node, environment)
    before = leaks.everything(node)
    _, containers, shared = hooked(rich_pods, mode)
    inits = [container.pid() for container in containers]
    events = Listener(ctr)
    until(lambda: is_subscribed(ctr, events), "ctr events to listen")
    kill_shim(node, "pouchrich")
    for container in containers:
        status = container.wait()
        assert status.exit_code in (137, 255)  # 255 where CRI asked the dead server first
    for name in ("host", "container"):
        until(lambda name=name: len(lines(shared / name)) == len(NAMES), "the hooks to run")
        assert lines(shared / name) == KILLED
    for init in inits:
        until(lambda init=init: not processes.alive(init), "the init to be killed")
    for container in containers:
        until(lambda one=container: "/tasks/delete" in events.topics(one.id), "the events")
        assert events.topics(container.id) == ["/tasks/exit", "/tasks/delete"]
    events.close()
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)
    assert leaks.settled(node, before) == []


def test_a_server_that_is_killed_while_containerd_is_away_is_cleaned_up_at_its_start(rich_pods: RichPods) -> None:
    """Then containerd runs `delete` for members too."""
    node = rich_pods.node
    before = leaks.everything(node)
    _, containers, shared = hooked(rich_pods, "dumb-init")
    inits = [container.pid() for container in containers]
    node.kill_containerd()
    kill_shim(node, "pouchrich")
    node.start()
    rich_pods.pods.reconnect()
    for init in inits:
        until(lambda init=init: not processes.alive(init), "the init to be killed")
    for name in ("host", "container"):
        until(lambda name=name: len(lines(shared / name)) == len(NAMES), "the hooks to run")
        assert lines(shared / name) == KILLED
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)
    assert leaks.settled(node, before) == []


def test_members_outlive_a_containerd_that_finds_their_shim_by_the_handlers_path_alone(pods: Pods) -> None:
    """It writes the path down where it has run `start`, and at its start looks for that of each container there."""
    container = pods.run(handler="pouchrich-by-path").run(*FOREVER)
    pods.node.kill_containerd()
    pods.node.start()
    pods.reconnect()
    assert container.status().state == RUNNING
    assert container.exec("true").exit_code == 0
    container.stop(0)
    assert container.wait().exit_code == 137


def test_members_outlive_containerd_and_end_as_ever_with_the_next_one(rich_pods: RichPods) -> None:
    node = rich_pods.node
    before = leaks.everything(node)
    pod, containers, shared = hooked(rich_pods, "dumb-init")
    node.kill_containerd()
    node.start()
    rich_pods.pods.reconnect()
    assert [container.status().state for container in containers] == [RUNNING] * len(NAMES)
    containers[0].stop(0)
    assert containers[0].wait().exit_code == 137
    kept = {container.id for container in containers[1:]}
    until(lambda: {path.name for path in OURS.glob(f"{pod.id}/*")} == kept, "its bundle to go")
    kill_shim(node, "pouchrich")
    for name in ("host", "container"):
        until(lambda name=name: len(lines(shared / name)) == len(NAMES), "the hooks to run")
        assert lines(shared / name) == sorted(["first 137 Signal", *KILLED[1:]])
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)
    assert leaks.settled(node, before) == []
