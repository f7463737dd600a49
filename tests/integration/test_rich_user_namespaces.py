"""Rich containers in pods with `hostUsers: false`, where root of the container is nobody of the host's.

containerd gives user namespaces to handlers of its own runtime type alone, so this is the drop-in, whose configuration
is the node's file.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import binaries, configuration, processes, rich_images
from tests.integration.node import Node
from tests.integration.pods import Container, Pods
from tests.integration.rich_images import System
from tests.integration.rich_pods import security, variables
from tests.integration.test_rich_application import FOREVER, running
from tests.integration.test_rich_hooks import hook
from tests.integration.test_user_namespaces import COUNT, FIRST_ID, user_namespace

pytestmark = pytest.mark.only(containerd="2.1", runtime="dropin")

SYSTEMD = System("systemd")
CONFIGURATION = str(binaries.prefix() / "etc/pouchrich/config.toml")
each_mode = pytest.mark.parametrize("mode", ["systemd", pytest.param("dumb-init", marks=pytest.mark.full)])


class Mapped:
    """Makes pods with a user namespace, whose containers are as the node's file says."""

    def __init__(self, pods: Pods, handler: str | None = None) -> None:
        self.pods = pods
        self._handler = handler

    def run(
        self,
        mode: str,
        system: System,
        *command: str,
        config: pb.ContainerConfig | None = None,
        more: str = "",
        namespaces: pb.NamespaceOption | None = None,
        hostname: str = "",
    ) -> Container:
        node = self.pods.node
        text = f'version = 1\n[runtime]\nbinary = "{node.oci}"\n[rich]\nmode = "{mode}"\n{more}'
        node.write_files({CONFIGURATION: text})
        wanted = pb.ContainerConfig(image=pb.ImageSpec(image=rich_images.import_system(node, system)))
        if config is not None:
            wanted.MergeFrom(config)
        pod = self.pods.run(handler=self._handler, namespaces=namespaces or user_namespace(), hostname=hostname)
        return pod.create(*command, config=wanted).start()


@pytest.fixture
def fresh(node: Node) -> Iterator[None]:
    """The node's file is as it was afterwards."""
    yield
    node.write_files(configuration.node_files(node.settings))


@pytest.fixture
def mapped(pods: Pods, fresh: None) -> Mapped:
    """By the environment's own handler."""
    return Mapped(pods)


@pytest.mark.parametrize(
    ("mode", "system"),
    [
        ("dumb-init", SYSTEMD),
        ("systemd", SYSTEMD),
        pytest.param("sbin-init", System("sysvinit"), marks=pytest.mark.full),
        pytest.param("sbin-init", System("busybox"), marks=pytest.mark.full),
        pytest.param("sbin-init", System("openrc"), marks=pytest.mark.full),
        pytest.param("systemd", System("systemd", "trixie"), marks=pytest.mark.full),
    ],
    ids=str,
)
def test_the_application_runs_and_ends_as_it_would_without(mapped: Mapped, mode: str, system: System) -> None:
    script = "trap 'echo got it; exit 42' TERM; echo ready; id -u >/dev/stdout; echo $PPID; echo err >/dev/stderr"
    container = running(mapped.run(mode, system, "sh", "-c", f"{script}; while :; do sleep 0.1; done"))
    container.wait_output(b"ready\n0\n1\n")
    container.wait_output(b"err\n", "stderr")
    comm = {"dumb-init": "dumb-init"}.get(mode, "systemd" if system.kind == "systemd" else "init")
    assert container.shell("cat /proc/1/comm; cat /proc/self/uid_map").split() == [comm, "0", str(FIRST_ID), str(COUNT)]
    for pid in (container.pid(), *processes.descendants(container.pid())):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # a sleep, which has ended
            continue
        uids = next(line for line in text.splitlines() if line.startswith("Uid:"))
        assert all(FIRST_ID <= int(uid) < FIRST_ID + COUNT for uid in uids.split()[1:]), processes.command(pid)
    container.stop(grace_s=30)
    assert container.status().exit_code == 42
    container.wait_output(b"ready\n0\n1\ngot it\n")


@each_mode
def test_another_user_has_its_streams_and_its_environment_for_shells(mapped: Mapped, mode: str) -> None:
    script = "id -u >/dev/stdout; id -g >/dev/stderr; grep -qw FROM_THE_POD /etc/profile.d/pouchenv.sh && echo read"
    config = security(uid=1000)
    config.MergeFrom(variables({"FROM_THE_POD": "it is set"}))
    config.linux.security_context.run_as_group.value = 1001
    container = mapped.run(mode, SYSTEMD, "sh", "-c", script, config=config)
    assert container.wait().exit_code == 0
    container.wait_output(b"1000\nread\n")
    container.wait_output(b"1001\n", "stderr")


@pytest.mark.full
def test_the_terminal_is_the_applications(mapped: Mapped) -> None:
    config = pb.ContainerConfig(stdin=True, tty=True)
    config.MergeFrom(security(uid=1000))
    container = mapped.run("systemd", SYSTEMD, "sh", config=config)
    with container.attach(tty=True) as stream:
        stream.write(b"echo mine-$((1+1)) >$(tty); exit 6\n")
        stream.read_until(b"mine-2")
    assert container.wait().exit_code == 6


@each_mode
def test_hooks_and_agents_are_in_the_user_namespace_too(mapped: Mapped, mode: str) -> None:
    shared = mapped.pods.node.base / f"mapped-{time.monotonic_ns()}"
    shared.mkdir()
    shared.chmod(0o777)
    look = "cat >/dev/null; read first host count </proc/self/uid_map; echo $(id -u) $first $host"
    more = hook("prestart", "container", f"({look}) >>/shared/prestart")
    more += hook("poststop", "container", f"({look}) >>/shared/poststop")
    # Under systemd its output is the journal's, a socket, which cannot be opened.
    says = "true" if mode == "systemd" else "echo said >/dev/stdout"
    agent = ["/bin/sh", "-c", f"{says} && ({look}) </dev/null >>/shared/agent; exec sleep 1000"]
    more += f'[[agents]]\nname = "watcher"\ncommand = {json.dumps(agent)}\n'
    config = pb.ContainerConfig(mounts=[pb.Mount(container_path="/shared", host_path=str(shared))])
    script = "until [ -s /shared/agent ]; do sleep 0.05; done"
    container = mapped.run(mode, SYSTEMD, "sh", "-c", script, config=config, more=more)
    assert container.wait().exit_code == 0
    for name in ("prestart", "agent", "poststop"):
        assert (shared / name).read_text() == f"0 0 {FIRST_ID}\n", name


def test_root_in_the_container_may_make_cgroups_and_change_no_limit(mapped: Mapped) -> None:
    container = running(mapped.run("systemd", SYSTEMD, "sh", "-c", FOREVER))
    own = container.shell("[ -e /sys/fs/cgroup/cgroup.procs ] && echo /sys/fs/cgroup || echo /sys/fs/cgroup/systemd")
    container.shell(f"cd {own.strip()} && mkdir made && rmdir made")
    attempt = "for one in *.max cgroup.max.*; do [ -e $one ] && read v <$one && echo $v >$one && echo wrote $one; done"
    assert "wrote" not in container.exec("sh", "-c", f"cd {own.strip()}; {attempt}").stdout.decode()
