"""The pod's seccomp filter and its LSM labels, in force for all that runs in a rich container."""

import json
import re
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes, specs
from tests.integration.images import BUSYBOX
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, mode_of
from tests.integration.test_rich_application import busybox_too, each_init, everywhere, in_one_place, running
from tests.integration.test_rich_hooks import MODES, Hooked, hook
from tests.integration.test_rich_systemd import failed_start

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
NO_CHROOT = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}],
}
LOOK = "grep ^Seccomp: /proc/self/status; chroot / true 2>/dev/null && echo allowed || echo denied"
MAKE_USER_NAMESPACE = "unshare -U true 2>/dev/null && echo allowed || echo denied"
FILTERED = "Seccomp:\t2"


def confined(rich_pods: RichPods, kind: pb.SecurityProfile.ProfileType) -> pb.ContainerConfig:
    """The part of a container's config with a seccomp profile; Localhost is one that denies chroot(2) alone."""
    profile = pb.SecurityProfile(profile_type=kind)
    if kind == pb.SecurityProfile.Localhost:
        file = rich_pods.node.base / "no-chroot.json"
        file.write_text(json.dumps(NO_CHROOT))
        profile.localhost_ref = str(file)
    context = pb.LinuxContainerSecurityContext(seccomp=profile)
    return pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=context))


@everywhere
@busybox_too
def test_the_pods_seccomp_profile_holds_for_the_application_and_all_beside_it(
    rich_pods: RichPods, system: System
) -> None:
    config = confined(rich_pods, pb.SecurityProfile.Localhost)
    container = running(rich_pods.run(system, "sh", "-c", f"echo ready; {LOOK}; exec sleep 300", config=config))
    container.wait_output(f"ready\n{FILTERED}\ndenied\n".encode())
    assert container.shell(LOOK) == f"{FILTERED}\ndenied\n"
    pids = [container.pid(), *processes.descendants(container.pid())]
    said = {pid: status for pid in pids if (status := processes.status(pid))}  # but for what has ended meanwhile
    assert container.pid() in said
    assert len(said) >= 2
    assert [processes.command(pid) for pid, status in said.items() if FILTERED not in status] == []


@everywhere
@each_init
def test_an_init_boots_under_containerds_default_profile_which_the_application_has_too(
    rich_pods: RichPods, system: System
) -> None:
    config = confined(rich_pods, pb.SecurityProfile.RuntimeDefault)
    container = rich_pods.run(system, "sh", "-c", f"{MAKE_USER_NAMESPACE}; exit 7", config=config)
    assert container.wait().exit_code == 7
    container.wait_output(b"denied\n")


def test_without_a_profile_the_same_calls_are_allowed(rich_pods: RichPods) -> None:
    """Or the tests above would show nothing."""
    config = confined(rich_pods, pb.SecurityProfile.Unconfined)
    container = rich_pods.run(SYSTEMD, "sh", "-c", f"{LOOK}; {MAKE_USER_NAMESPACE}", config=config)
    assert container.wait().exit_code == 0
    container.wait_output(b"Seccomp:\t0\nallowed\nallowed\n")


@pytest.mark.parametrize("mode", MODES)
def test_the_pods_seccomp_profile_holds_for_hooks_and_agents(rich_pods: RichPods, mode: str) -> None:
    hooked = Hooked(rich_pods)
    agent = {"name": "watcher", "command": ["/bin/sh", "-c", f"({LOOK}) >>/shared/agent; exec sleep 1000"]}
    more = hook("prestart", "container", f"({LOOK}) >>/shared/prestart")
    more += hook("poststop", "container", f"({LOOK}) >>/shared/poststop")
    more += "[[agents]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in agent.items())
    command = ("sh", "-c", "until grep -q denied /shared/agent; do sleep 0.05; done")
    config = confined(rich_pods, pb.SecurityProfile.Localhost)
    container = hooked.create(mode, *command, more=more, config=config).start()
    assert container.wait().exit_code == 0
    for name in ("prestart", "agent", "poststop"):
        assert hooked.lines(name) == [FILTERED, "denied"], name


@pytest.mark.skipif(Path("/sys/fs/selinux").exists(), reason="a kernel with SELinux takes the label")
@pytest.mark.parametrize("key", ["apparmorProfile", "selinuxLabel"])
@pytest.mark.parametrize("system", [SYSTEMD, pytest.param(System("sysvinit"), marks=pytest.mark.full)], ids=str)
def test_a_label_that_the_kernel_does_not_know_is_refused_as_in_a_plain_container(
    rich_pods: RichPods, system: System, key: str
) -> None:
    """PID 1 has the pod's label, and what is under it inherits it: none is dropped on the way."""
    messages = []
    for mode in ("", mode_of(system)):
        pod = rich_pods.pod(mode, rich="" if mode else "enabled = false")
        container = rich_pods.create(pod, system, "true")
        specs.edit(rich_pods.node, container.id, lambda spec: spec["process"].update({key: "pouchrich-test"}))
        messages.append(failed_start(container))
    assert messages[1] == messages[0]
    assert re.search("apparmor|selinux|/proc/self/attr", messages[0], re.IGNORECASE), messages


@pytest.mark.skipif(Path("/sys/fs/selinux").exists(), reason="SELinux takes any label")
def test_a_root_file_system_that_the_kernel_does_not_mount_is_refused_with_its_reason(rich_pods: RichPods) -> None:
    """containerd adds the label to the mount's options."""
    container = rich_pods.create(rich_pods.pod("dumb-init"), BUSYBOX, "true")
    specs.edit(rich_pods.node, container.id, lambda spec: spec["linux"].update(mountLabel="system_u:object_r:x_t:s0"))
    message = failed_start(container)
    assert all(word in message for word in ("rootfs mount 0: overlay at /", "Invalid argument")), message
