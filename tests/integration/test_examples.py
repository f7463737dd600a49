"""The examples, each run as its manifest says: those that need no image of their own in every run, the others in full.

Their images are what buildah makes of their Containerfiles.
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cri.client import CallFailed
from tests.integration import binaries, configuration, containerfiles, images, processes, rich_pods
from tests.integration.kubelet import ManifestPod, names_of
from tests.integration.node import Node
from tests.integration.pods import Container, Pods
from tests.integration.test_rich_sshd import address
from tests.integration.waiting import until
from tests.root import rootfs_images
from tests.unit.docs import manifests, markdown

pytestmark = [pytest.mark.only(runtime="pouchrich"), pytest.mark.usually("2.1-crun-pouchrich")]

BUSYBOX = "docker.io/library/busybox:1"
takes_long = pytest.mark.timeout(900)

Deploy = Callable[..., ManifestPod]


@pytest.fixture
def deploy(pods: Pods, tmp_path: Path) -> Deploy:
    """Deploys an example: its node's configuration, its image and its pod; `swap` is done to the manifest's text."""

    def deployed(name: str, *, swap: tuple[str, str] = ("", ""), directory: Path | None = None) -> ManifestPod:
        example = markdown.EXAMPLES / name
        configure(pods.node, example / "node.toml")
        (manifest,) = example.glob("*.yaml")
        documents = manifests.load(manifest.read_text().replace(*swap) if swap[0] else manifest.read_text())
        if (example / "Containerfile").exists():
            built = tmp_path / name
            if not built.exists():
                shutil.copytree(example, built)
                PREPARED.get(name, lambda _: None)(built)
            (reference,) = {line.split()[-1] for line in manifest.read_text().splitlines() if "image: " in line}
            containerfiles.import_built(pods.node, built, reference)
        else:
            tag(pods.node)
        return ManifestPod(pods, documents, handler=rich_pods.HANDLER, directory=directory)

    return deployed


def configure(node: Node, file: Path) -> None:
    """The node's configuration is the example's, but that the OCI runtime is the run's own."""
    text = file.read_text() if file.exists() else "version = 1\n"
    node.write_files({configuration.TEST_FILE: f'{text}\n[runtime]\nbinary = "{node.oci}"\n'})


def tag(node: Node) -> None:
    """Have the node hold busybox by the name that manifests have for it."""
    node.ctr("-n", "k8s.io", "images", "tag", "--force", images.BUSYBOX, BUSYBOX)
    with node.client() as client:
        until(lambda: client.has_image(BUSYBOX), f"CRI to see {BUSYBOX}")


def zombies(container: Container) -> int:
    return sum(processes.state(pid) == "Z" for pid in processes.descendants(container.pid()))


@pytest.mark.parametrize("rich", [True, False])
def test_an_init_for_any_pod(deploy: Deploy, rich: bool) -> None:
    swap = ("pouchrich.io/mode: dumb-init", 'pouchrich.io/rich: "false"')
    container = deploy("init-for-any-pod", swap=("", "") if rich else swap).run()
    if not rich:
        until(lambda: zombies(container) == 3, "three zombies")
        return
    assert container.shell("cat /proc/1/comm") == "dumb-init\n"
    until(lambda: names_of(container) == ["dumb-init", "sleep"], "the orphans to be reaped")
    began = time.monotonic()
    container.stop(30)
    assert time.monotonic() - began < 15


def test_a_ci_runner(deploy: Deploy) -> None:
    job = deploy("ci-runner")
    container = job.run()
    assert container.wait().exit_code == 2
    assert f"`{2} {job.message('build').strip()}`" in (markdown.EXAMPLES / "ci-runner/README.md").read_text()


def test_a_node_agent(deploy: Deploy, pods: Pods) -> None:
    files = {
        f"/var/lib/node-agent/{one.name}": one.read_text() for one in (markdown.EXAMPLES / "node-agent/node").iterdir()
    }
    pods.node.write_files(files)
    pod = deploy("node-agent")
    container = pod.run()
    pouchrich = ["nsenter", f"--mount=/proc/{pods.node.pid}/ns/mnt", str(binaries.prefix() / "bin/pouchrich")]

    def said() -> str:
        command = [*pouchrich, "logs", "legacy-shop/watched/app", "--agents"]
        return subprocess.run(command, capture_output=True, text=True).stdout

    until(lambda: "processes" in said(), "the agent to say something", every_s=0.2)
    container.stop(20)
    assert container.status().exit_code == 0
    ended = Path(f"/proc/{pods.node.pid}/root/var/lib/node-agent/ended")
    assert ended.read_text().splitlines() == ["legacy-shop app ended with 0"]
    with pytest.raises(CallFailed, match="watcher"):
        deploy(
            "node-agent",
            swap=(
                "  namespace: legacy-shop",
                '  namespace: legacy-shop\n  annotations:\n    pouchrich.io/rich: "false"',
            ),
        ).run()


@pytest.mark.full
@takes_long
def test_a_legacy_daemon(deploy: Deploy) -> None:
    container = deploy("legacy-daemon").run()
    assert {"systemd", "cron", "rsyslogd", "legacyd"} <= set(names_of(container))
    until(lambda: "up, queue orders" in container.shell("cat /var/log/syslog"), "the daemon's line", every_s=0.2)
    container.shell("kill -QUIT $(cat /run/legacyd.pid)")
    container.wait_output(b"up\nmain: waiting, queue orders\n")
    until(lambda: "queue orders is swept" in container.shell("cat /var/log/syslog"), "cron", timeout_s=75, every_s=1)
    container.stop(60)
    assert container.status().exit_code == 143


@pytest.mark.full
@takes_long
def test_an_ssh_bastion(deploy: Deploy, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    swap = ("ssh-ed25519 AAAA you@example", key.with_suffix(".pub").read_text().strip())
    bastion = deploy("ssh-bastion", swap=swap)
    container = bastion.run()
    options = [
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=accept-new",
        "-o",
        f"UserKnownHostsFile={tmp_path}/known",
    ]
    ssh = ["ssh", "-i", str(key), *options, f"jump@{address(bastion.pod)}"]
    until(lambda: subprocess.run([*ssh, "true"], capture_output=True).returncode == 0, "a login", every_s=0.2)
    done = subprocess.run(
        [*ssh, "id -un; cat /proc/1/comm; loginctl show-user jump -p Name"], capture_output=True, text=True
    )
    assert done.stdout == "jump\nsystemd\nName=jump\n", done
    assert "Accepted publickey for jump" in container.output("stderr").decode()
    host_key = bastion.directory / "host-key/ssh_host_ed25519_key"
    made = host_key.read_bytes()
    container.stop(20)
    deploy("ssh-bastion", swap=swap, directory=bastion.directory).run()
    assert host_key.read_bytes() == made


@pytest.mark.full
@takes_long
def test_a_bastion_without_a_key_says_why_it_does_not_start(deploy: Deploy) -> None:
    with pytest.raises(CallFailed, match="prestart hook sshd-config"):
        deploy("ssh-bastion", swap=("ssh-keygen -q", "true")).run()


PSQL = ("runuser", "-u", "postgres", "--", "psql", "-qtAc")
WAITS = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"


@pytest.mark.full
@takes_long
def test_postgresql(deploy: Deploy) -> None:
    first = deploy("postgresql")
    container = first.run()
    assert {"systemd", "cron", "postgres"} <= set(names_of(container))
    assert container.exec(*PSQL, "create table t as select 42 as n").exit_code == 0
    with container.open_exec(*PSQL, "select pg_sleep(1000)"):
        until(lambda: container.exec(*PSQL, WAITS).stdout == b"1\n", "a client", every_s=0.1)
        began = time.monotonic()
        container.stop(first.grace_s)
    assert time.monotonic() - began < 60
    assert container.status().exit_code == 0
    assert first.message("postgres").split(":")[1].strip() == "shut down"
    container = deploy("postgresql", directory=first.directory).run()
    assert container.exec(*PSQL, "select n from t").stdout == b"42\n"


@pytest.mark.full
@takes_long
def test_an_agents_sandbox(deploy: Deploy, pods: Pods) -> None:
    sandbox = deploy("agent-sandbox")
    container = sandbox.run()
    web = ("systemd-run", "--unit", "web", "--working-directory", "/scratch", "python3", "-m", "http.server", "8000")
    container.shell("echo hello >/scratch/file")
    assert container.exec(*web).exit_code == 0
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/file').read())"
    until(lambda: container.exec("python3", "-c", fetch).stdout == b"b'hello\\n'\n", "the server", every_s=0.2)
    assert container.exec("systemctl", "is-active", "web").stdout == b"active\n"
    assert "NoNewPrivs:\t1" in container.shell("cat /proc/self/status")
    container.stop(sandbox.grace_s)
    assert container.status().exit_code == 143
    told = Path(f"/proc/{pods.node.pid}/root/var/lib/sandboxes")
    assert told.read_text() == "default/shell Signal\n"


ERPD = """#!/bin/sh
# The daemon of a machine of old.
echo "erpd is up on $(hostname), init is $(cat /proc/1/comm)"
trap 'exit 0' TERM
while :; do sleep 0.2; done
"""


SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides: erp
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop: 0 1 6
### END INIT INFO
exec touch /started-at-boot
"""


def machine(context: Path) -> None:
    """The root file system of a virtual machine with sysvinit, as a tar."""
    tree = context.parent / "machine"
    subprocess.run(["cp", "-a", "--reflink=auto", rootfs_images.debian("sysvinit"), tree], check=True)
    (tree / "usr/local/sbin/erpd").write_text(ERPD)
    (tree / "etc/init.d/erp").write_text(SCRIPT)
    for program in ("usr/local/sbin/erpd", "etc/init.d/erp"):
        (tree / program).chmod(0o755)
    subprocess.run(["chroot", tree, "update-rc.d", "erp", "defaults"], check=True)
    (tree / "etc/fstab").write_text("UUID=0a3407de-014b-458b-b5c1-848e92a327a3 / ext4 defaults 0 1\n")
    (tree / "boot/vmlinuz").write_text("a kernel")
    subprocess.run(["tar", "--numeric-owner", "-C", tree, "-cf", context / "rootfs.tar", "."], check=True)
    shutil.rmtree(tree)


PREPARED = {"vm-migration": machine}


@pytest.mark.full
@takes_long
def test_a_virtual_machines_image(deploy: Deploy) -> None:
    container = deploy("vm-migration").run()
    until(lambda: container.output().endswith(b"\n"), "the daemon")
    container.wait_output(b"erpd is up on erp, init is init\n")
    assert {"init", "cron", "erpd"} <= set(names_of(container))
    assert container.exec("test", "-e", "/started-at-boot").exit_code == 1
    assert container.exec("test", "-e", "/etc/fstab").exit_code == 1
    container.stop(60)
    assert container.status().exit_code == 0
