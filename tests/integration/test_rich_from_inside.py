"""What systemd does by itself in a container, and what an administrator does there, beside an application of a pod."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.node import Node
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, security
from tests.integration.test_rich_application import FOREVER, in_one_place, running
from tests.integration.test_rich_dumb_init import refused
from tests.integration.test_rich_hooks import hook
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
SERVICE = b"[Service]\nExecStart=/bin/sleep 100000\n"


def test_what_was_in_tmp_before_the_boot_is_there_after_it(rich_pods: RichPods) -> None:
    """Distributions have systemd-tmpfiles empty /tmp at a boot, which comes after prestart hooks."""
    config = pb.ContainerConfig(working_dir="/tmp/work")
    prestart = hook("prestart", "container", "cat >/dev/null; echo hook >/tmp/left")
    container = rich_pods.run(SYSTEMD, "sh", "-c", "cat /tmp/left; pwd", config=config, more=prestart)
    assert container.wait().exit_code == 0
    container.wait_output(b"hook\n/tmp/work\n")


@pytest.mark.parametrize("read_only", [False, True], ids=["writable", "read-only"])
@pytest.mark.parametrize("text", [None, b"uninitialized\n", b""], ids=["missing", "uninitialized", "empty"])
def test_an_image_without_a_machine_id_gets_one_and_keeps_its_units_as_they_are(
    rich_pods: RichPods, text: bytes | None, read_only: bool
) -> None:
    """To systemd it is a first boot, at which it enables what its distribution's presets say."""
    entries = [Entry("usr/lib/systemd/system/off.service", SERVICE + b"[Install]\nWantedBy=multi-user.target\n")]
    entries += [Entry("etc/.wh.machine-id", b"") if text is None else Entry("etc/machine-id", text, mode=0o444)]
    name = f"no-machine-id-{'missing' if text is None else len(text)}"
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, name, entries)
    config = security()
    config.linux.security_context.readonly_rootfs = read_only
    container = running(rich_pods.run(image, "sh", "-c", FOREVER, config=config))
    assert container.exec("cat", "/etc/machine-id").stdout == given_id(container)
    assert container.exec("systemctl", "is-enabled", "off").stdout == b"disabled\n"


@pytest.mark.full
def test_an_older_systemd_has_that_machine_id_too(rich_pods: RichPods) -> None:
    """247 goes by /etc/machine-id alone, and would mount a passing one."""
    old = System("systemd", "bullseye")
    image = rich_images.import_variant(rich_pods.node, old, "old-no-machine-id", [Entry("etc/.wh.machine-id", b"")])
    container = running(rich_pods.run(image, "sh", "-c", FOREVER))
    assert container.exec("cat", "/etc/machine-id").stdout == given_id(container)
    until(lambda: container.exec("systemctl", "is-system-running").stdout == b"running\n", "the system to be up")


def given_id(container: Container) -> bytes:
    """The machine-id that the container's `container_uuid` stands for (machine-id(5))."""
    environ = Path(f"/proc/{container.pid()}/environ").read_bytes().split(b"\0")
    (uuid,) = (one.removeprefix(b"container_uuid=") for one in environ if one.startswith(b"container_uuid="))
    return uuid.replace(b"-", b"") + b"\n"


def test_a_mandatory_service_is_restarted_and_stopped_beside_the_application(rich_pods: RichPods) -> None:
    """As the upgrade of a package does."""
    entries = [Entry("etc/systemd/system/needed.service", SERVICE, mode=0o644)]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "needed-service", entries)
    script = f"trap 'exit 9' TERM; {FOREVER}"
    container = running(rich_pods.run(image, "sh", "-c", script, more='[services]\nmandatory = ["needed"]'))
    for verb, state in (("restart", b"active\n"), ("stop", b"inactive\n")):
        container.shell(f"systemctl {verb} needed")
        assert container.exec("systemctl", "is-active", "needed").stdout == state
        assert container.exec("systemctl", "is-active", "pouchrich-app").stdout == b"active\n"
    container.stop(grace_s=20)
    assert container.status().exit_code == 9


@pytest.mark.parametrize("name", ["TERM", "PIPE"])
def test_an_application_that_a_signal_ends_is_restarted_as_one_that_fails(rich_pods: RichPods, name: str) -> None:
    """To systemd an end by one of these is a clean one."""
    script = f"echo run >>/tmp/runs; [ $(wc -l </tmp/runs) -ge 2 ] || kill -{name} $$; echo second"
    container = rich_pods.run(SYSTEMD, "bash", "-c", script, rich='restart = "on-failure"')
    assert container.wait().exit_code == 0
    container.wait_output(b"second\n")


@pytest.mark.parametrize("signal", ["", "SIGQUIT"])
def test_a_poweroff_from_inside_asks_the_application_as_a_stop_of_the_pod_does(
    rich_pods: RichPods, signal: str
) -> None:
    """By the pod's stop signal, and with its time: more than a few seconds."""
    script = f"trap 'sleep 8; exit 3' {signal or 'TERM'}; {FOREVER}"
    annotations = {"pouchrich.io/stop-signal": signal} if signal else None
    container = running(rich_pods.run(SYSTEMD, "bash", "-c", script, annotations=annotations))
    container.shell("systemctl --no-block poweroff")
    assert container.wait().exit_code == 3


@contextmanager
def shared(node: Node) -> Iterator[Path]:
    """A shared mount of the node with another below it, whose path is `other`."""
    path = node.base / f"shared-{time.monotonic_ns()}"
    path.mkdir()
    inside = ("nsenter", f"--mount=/proc/{node.pid}/ns/mnt", "sh", "-ec")
    script = (
        f"mount -t tmpfs none {path}; mount --make-shared {path}; mkdir {path}/other; mount -t tmpfs it {path}/other"
    )
    subprocess.run([*inside, script], check=True)
    try:
        yield path
    finally:
        subprocess.run([*inside, f"umount -R {path}"], check=True)


def _config(path: Path) -> pb.ContainerConfig:
    config = security(add=["SYS_ADMIN"])
    propagation = pb.MountPropagation.PROPAGATION_BIDIRECTIONAL
    config.mounts.append(pb.Mount(container_path="/srv/of-node", host_path=str(path), propagation=propagation))
    return config


def test_what_is_mounted_below_a_shared_volume_stays_mounted_on_the_node(rich_pods: RichPods) -> None:
    """systemd unmounts what it sees, and where propagation goes both ways an unmount reaches the node."""
    with shared(rich_pods.node) as path:
        container = running(rich_pods.run(SYSTEMD, "sh", "-c", f"trap exit TERM; {FOREVER}", config=_config(path)))
        until(
            lambda: container.exec("systemctl", "is-active", "srv-of\\x2dnode-other.mount").exit_code == 0, "its unit"
        )
        container.stop(grace_s=20)
        assert f" {path}/other " in Path(f"/proc/{rich_pods.node.pid}/mountinfo").read_text()
        rich_pods.pods.remove_all()


def test_an_init_that_would_unmount_the_nodes_is_refused(rich_pods: RichPods) -> None:
    with shared(rich_pods.node) as path:
        pod = rich_pods.pod("sbin-init")
        message = refused(rich_pods.create(pod, System("sysvinit"), "true", config=_config(path)))
        assert "mounts[/srv/of-node]" in message, message
        assert "propagation" in message, message
        rich_pods.pods.remove_all()
