"""Volumes as today's kubelets ask for them: ones that do not execute, images, mounts that are read-only all through."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import specs
from tests.integration.images import BUSYBOX
from tests.integration.pods import OWN_PID_NAMESPACES
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import FOREVER, in_one_place
from tests.integration.test_rich_hooks import Hooked, hook
from tests.integration.test_rich_kubelet import each_mode
from tests.integration.test_rich_user_namespaces import Mapped, fresh  # noqa: F401
from tests.integration.test_user_namespaces import NO_TABLE
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]


@contextmanager
def mounted(rich_pods: RichPods, name: str, options: str) -> Iterator[str]:
    """The path of a file system in memory on the node, as a kubelet has for a pod's emptyDir."""
    node = rich_pods.node
    path = node.base / f"pods/{time.monotonic_ns()}/volumes/kubernetes.io~empty-dir/{name}"
    path.mkdir(parents=True)
    inside = ("nsenter", f"--mount=/proc/{node.pid}/ns/mnt")
    subprocess.run([*inside, "mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
    try:
        yield str(path)
    finally:
        rich_pods.pods.remove_all()
        subprocess.run([*inside, "umount", "-R", str(path)], check=True)


def not_executable(spec: dict[str, Any]) -> None:
    """As of a pod's `bindMountOptions`."""
    for mount in spec["mounts"]:
        if mount["destination"] in ("/run", "/tmp"):
            mount["options"] += ["noexec", "nosuid", "nodev"]


@each_mode
def test_an_empty_dir_at_run_and_tmp_need_not_execute(rich_pods: RichPods, mode: str, system: System) -> None:
    """Neither init nor launcher nor a hook is executed from there."""
    script = r"grep -cE ' /(run|tmp) .*noexec' /proc/self/mounts; cp /bin/true /tmp/true; /tmp/true || echo refused"
    volumes = rich_pods.node.base / f"pods/{time.monotonic_ns()}/volumes/kubernetes.io~empty-dir"
    mounts = [pb.Mount(container_path=path, host_path=f"{volumes}{path}") for path in ("/run", "/tmp")]
    for mount in mounts:
        Path(mount.host_path).mkdir(parents=True)
    pod = rich_pods.pod(mode, more=hook("prestart", "container", "cat >/dev/null; echo hook >/run/hook"))
    command = ("sh", "-c", f"cat /run/hook; {script}; trap 'exit 42' TERM; {FOREVER}")
    container = rich_pods.create(pod, system, *command, config=pb.ContainerConfig(mounts=mounts))
    specs.edit(rich_pods.node, container.id, not_executable)
    container.start()
    until(lambda: b"ready\n" in container.output(), "the application to be ready", timeout_s=20)
    assert container.output() == b"hook\n2\nrefused\nready\n"
    assert container.shell("echo exec works") == "exec works\n"
    container.stop(grace_s=20)
    assert container.status().exit_code == 42


@pytest.mark.only(containerd=("2.1", "2.3", "2.4"))
@each_mode
def test_an_image_is_a_volume_for_the_application_and_the_hook_after_it(
    rich_pods: RichPods, mode: str, system: System
) -> None:
    hooked = Hooked(rich_pods)
    mount = pb.Mount(container_path="/tools", readonly=True, image=pb.ImageSpec(image=BUSYBOX))
    more = hook("poststop", "container", "cat >/dev/null; ls /tools/bin/busybox >/shared/container")
    config = pb.ContainerConfig(mounts=[mount])
    script = "/tools/bin/busybox echo from the image; touch /tools/x || echo read-only; exit 5"
    container = hooked.create(mode, "sh", "-c", script, image=system, config=config, more=more).start()
    assert container.wait().exit_code == 5
    container.wait_output(b"from the image\nread-only\n")
    assert hooked.lines("container") == ["/tools/bin/busybox"]


@pytest.mark.only(containerd=("2.1", "2.3", "2.4"))
@each_mode
def test_an_image_may_be_a_volume_below_run(rich_pods: RichPods, mode: str, system: System) -> None:
    """Where a real init has a file system in memory."""
    mount = pb.Mount(container_path="/run/tools", readonly=True, image=pb.ImageSpec(image=BUSYBOX))
    command = ("/run/tools/bin/busybox", "sh", "-c", "/run/tools/bin/busybox echo from the image")
    pod = rich_pods.pod(mode)
    container = rich_pods.create(pod, system, *command, config=pb.ContainerConfig(mounts=[mount])).start()
    assert container.wait().exit_code == 0
    container.wait_output(b"from the image\n")


@pytest.mark.only(containerd=("2.3", "2.4"))
@each_mode
def test_a_mount_that_is_read_only_all_through_is(
    rich_pods: RichPods,
    fresh: None,  # noqa: F811
    mode: str,
    system: System,
) -> None:
    """By the handler that has no options table: of others containerd asks for no features."""
    with mounted(rich_pods, "outer", "mode=755") as outer:
        inside = ("nsenter", f"--mount=/proc/{rich_pods.node.pid}/ns/mnt")
        subprocess.run([*inside, "mkdir", f"{outer}/inner"], check=True)
        subprocess.run([*inside, "mount", "-t", "tmpfs", "none", f"{outer}/inner"], check=True)
        mount = pb.Mount(container_path="/volume", host_path=outer, readonly=True, recursive_read_only=True)
        script = f"for d in /volume /volume/inner; do touch $d/x 2>/dev/null || echo no; done; {FOREVER}"
        container = Mapped(rich_pods.pods, handler=NO_TABLE).run(
            mode,
            system,
            *("sh", "-c", script),
            config=pb.ContainerConfig(mounts=[mount]),
            namespaces=OWN_PID_NAMESPACES,
        )
        until(lambda: container.output() == b"no\nno\nready\n", "the application", timeout_s=20)
        assert container.exec("touch", "/volume/inner/x").exit_code != 0
        container.stop(grace_s=20)


def test_a_boot_leaves_mode_and_owner_and_content_of_volumes_alone(rich_pods: RichPods) -> None:
    """systemd-tmpfiles would give them what the distribution has there, and empty /tmp."""
    volumes = rich_pods.node.base / f"volumes-{time.monotonic_ns()}"
    at = {"/var/log": 0o777, "/var/cache": 0o2775, "/home": 0o2775, "/tmp": 0o770, "/var/lib/app": 0o707}
    for path, mode in at.items():
        directory = Path(f"{volumes}{path}")
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, 0, 1000)
        directory.chmod(mode)
        (directory / "kept").touch()
    config = pb.ContainerConfig(mounts=[pb.Mount(container_path=path, host_path=f"{volumes}{path}") for path in at])
    script = f"stat -c '%a %g' {' '.join(at)}; for at in {' '.join(at)}; do [ -e $at/kept ] || echo no $at/kept; done"
    container = rich_pods.run(System("systemd"), "sh", "-c", script, config=config)
    assert container.wait(timeout_s=60).exit_code == 0
    container.wait_output("".join(f"{mode:o} 1000\n" for mode in at.values()).encode())


def test_logind_is_told_to_leave_shared_memory_to_the_pod(rich_pods: RichPods) -> None:
    """Removed at a logout, an application's would be gone: the IPC namespace is the pod's."""
    container = rich_pods.run(System("systemd"), "sleep", "300")
    ask = "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager RemoveIPC"
    until(lambda: container.exec(*ask.split()).stdout == b"b false\n", "logind to answer", timeout_s=30, every_s=0.3)
