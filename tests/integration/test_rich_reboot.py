"""Poststop hooks that a node owes when it goes down: after the next boot, with the first container that is started."""

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.integration.images import BUSYBOX
from tests.integration.pods import EXITED, Pods
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_hooks import TOLD, Hooked, hook
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

RECORDS = "/var/lib/pouchrich/poststop/k8s.io"


def owed(hooked: Hooked) -> str:
    """Poststop hooks: first one in the container, then one on the host, which shows the container's record."""
    script = f"cat >/dev/null; cat {RECORDS}/*.jsonl >{hooked.directory}/record"
    on_host = hook("poststop", "host", f"{script}; echo {TOLD} >>{hooked.directory}/host")
    return on_host + hook("poststop", "container", "echo ran >>/shared/container")


@contextlib.contextmanager
def rebooted(pods: Pods) -> Iterator[None]:
    """The pods' node after a reboot; at the end no pod is left."""
    with pods.node.rebooted():
        pods.reconnect()
        yield
        failed = pods.remove_all()
        assert not failed
    pods.reconnect()


@everywhere
@pytest.mark.parametrize(
    "mode", ["dumb-init", pytest.param("systemd", marks=pytest.mark.full)], ids=["dumb-init", "systemd"]
)
def test_after_a_reboot_the_next_start_runs_host_hooks_once_and_records_the_containers_as_skipped(
    rich_pods: RichPods, mode: str
) -> None:
    hooked = Hooked(rich_pods)
    image = System("systemd") if mode == "systemd" else BUSYBOX
    container = running(hooked.create(mode, "sh", "-c", FOREVER, more=owed(hooked), image=image).start())
    with rebooted(rich_pods.pods):
        assert container.status().state == EXITED
        assert hooked.lines("host") == []
        for number in range(2):
            pod = rich_pods.pod("dumb-init")
            other = rich_pods.create(pod, BUSYBOX, "true", name=f"other-{number}").start()
            assert other.wait().exit_code == 0
            until(lambda: hooked.lines("host"), "the host's hook to run")
        until(lambda: not list(rich_pods.node.records()), "the record to go")
    (line,) = hooked.lines("host")
    assert line == f"137 ShimKilled {mode} tests/app"
    assert hooked.lines("container") == []
    events = [json.loads(line) for line in hooked.lines("record") if line.strip("\0")]
    (skipped,) = [event for event in events if event.get("event") == "skipped"]
    names = [one["name"] for one in events[0]["head"]["hooks"]]
    assert names[skipped["hook"]] == "poststop-container"
    assert "the node rebooted" in skipped["result"]


def test_a_hook_that_a_reboot_interrupted_is_not_started_again(rich_pods: RichPods) -> None:
    hooked = Hooked(rich_pods)
    first = hook("poststop", "host", f"echo {TOLD} >>{hooked.directory}/host; sleep 300").replace("-host", "-slow")
    container = running(
        hooked.create("dumb-init", "sh", "-c", FOREVER, more=owed(hooked) + first, image=BUSYBOX).start()
    )
    rich_pods.node.ctr("-n", "k8s.io", "tasks", "kill", "--signal", "KILL", container.id)
    until(lambda: hooked.lines("host"), "the slow hook to run")
    with rebooted(rich_pods.pods):
        rich_pods.create(rich_pods.pod("dumb-init"), BUSYBOX, "true").start().wait()
        until(lambda: len(hooked.lines("host")) == 2, "the hook that was never started to run")
        until(lambda: not list(rich_pods.node.records()), "the record to go")
    assert hooked.lines("host") == ["137 Signal dumb-init tests/app"] * 2
    assert hooked.lines("container") == []
