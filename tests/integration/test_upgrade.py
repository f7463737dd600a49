"""Another version is installed while pods run: they go on with theirs, which goes after the last of them."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.paths import POSTSTOP_SWEPT
from shim import __version__
from shim.installed.replaced import CURRENT, LOCK
from shim.installed.version import IN_USE
from tests import checkout
from tests.cri.client import CallFailed
from tests.integration import binaries, configuration, isolation, processes
from tests.integration.images import BUSYBOX
from tests.integration.node import Node
from tests.integration.pods import EXITED, Container
from tests.integration.rich_pods import RichPods
from tests.integration.test_crashes import kill_shim
from tests.integration.test_rich_application import FOREVER, in_one_place, running
from tests.integration.test_rich_hooks import Hooked, hook
from tests.integration.waiting import until

OURS = ("shim", "runtime", "protos")
VERSION = "99.1"
LATER = 65
"""A value of rich.cgroup-depth that the other version alone allows."""
TELL = """
with __import__("io").open({told!r}, "a") as _told:
    _told.write(__import__("os").readlink("/proc/self") + "\\n")
"""
"""What each module of the other version does at the end: tell which process has imported it."""

HOME = binaries.prefix() / "lib/pouchrich"
INSTALL_TIMEOUT_S = 120.0


class Installation:
    """The shim's installation as the node sees it, and hack/install.sh of a checkout of another version."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._in_node = ["nsenter", f"--mount=/proc/{node.pid}/ns/mnt"]
        self._scratch = Path("/run/pouchrich-tests", f"installation-{node.base.name}")
        self._told = node.base / "imported"
        self._said = node.base / "install.log"
        self._checkout = node.base / "checkout"
        self.home = Path(f"/proc/{node.pid}/root{HOME}")

    def __enter__(self) -> "Installation":
        for number, target in enumerate((HOME, HOME.parents[1] / "bin")):
            for name in ("upper", "work"):
                (self._scratch / str(number) / name).mkdir(parents=True)
            layers = [f"lowerdir={target}", *(f"{one}dir={self._scratch}/{number}/{one}" for one in ("upper", "work"))]
            mount = ["mount", "-t", "overlay", "-o", ",".join(layers), "installation", str(target)]
            subprocess.run([*self._in_node, *mount], check=True)
        self._told.touch()
        checkout.copy(self._checkout)
        for package in OURS:
            for module in (self._checkout / package).rglob("*.py"):
                module.write_text(module.read_text() + TELL.format(told=str(self._told)))
        about = self._checkout / "shim/__init__.py"
        about.write_text(re.sub('__version__ = ".*"', f'__version__ = "{VERSION}"', about.read_text()))
        schema = self._checkout / "runtime/config/schema.py"
        known, later = "kinds.integer(1, 64), 8,", f"kinds.integer(1, {LATER}), 8,"
        assert known in schema.read_text()
        schema.write_text(schema.read_text().replace(known, later))
        return self

    def __exit__(self, *_: object) -> None:
        for target in (HOME, HOME.parents[1] / "bin"):
            subprocess.run([*self._in_node, "umount", "--lazy", str(target)], check=True)
        for path in (self._scratch, self._checkout):
            shutil.rmtree(path)

    def begin(self) -> "subprocess.Popen[bytes]":
        """Begin to install the other version on the node, but with the machine's own network."""
        network = [word for word in isolation.outside() if word.startswith("--net=")]
        words = [*self._in_node, *network, f"--wd={self._checkout}", "hack/install.sh", f"--prefix={binaries.prefix()}"]
        with self._said.open("wb") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    def said(self) -> str:
        return self._said.read_text()

    def versions(self) -> set[str]:
        return {path.name for path in self.home.iterdir() if path.is_dir() and not path.is_symlink()}

    def current(self) -> str:
        return os.readlink(self.home / CURRENT)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the command on the node's PATH."""
        command = [*self._in_node, str(binaries.prefix() / "bin/pouchrich"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def command_says(self) -> str:
        """The version of the command on the node's PATH."""
        return self.command("version").stdout.strip()

    def importers(self) -> set[int]:
        """The pids that have imported something of the other version."""
        return set(map(int, self._told.read_text().split()))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """As by another installer, for the length of the `with`."""
        with (self.home / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def version_of(pid: int) -> str:
    """The installed version that a pod server or spawner holds."""
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(Path(os.readlink(fd)))
    (found,) = {link.parent.name for link in links if link.name == IN_USE}
    return found


@pytest.fixture
def installation(rich_pods: RichPods) -> Iterator[Installation]:
    """With spawners that go after a second; before the node is another test's all pods have gone."""
    node, file = rich_pods.node, str(binaries.prefix() / "etc/pouchrich/config.toml")
    plain = configuration.node_files(node.settings)[file]
    node.write_files({file: f'{plain}\n[spawner]\nidle-timeout = "1s"\n'})
    with Installation(node) as found:
        yield found
        rich_pods.pods.remove_all()
    node.write_files({file: plain})


def with_hooks(hooked: Hooked) -> Container:
    """A container that answers TERM with 3, and whose hook on the host tells the command line of its supervisor."""
    supervisor = hook(
        "poststop", "host", f"tr '\\0' ' ' </proc/$PPID/cmdline >>{hooked.directory}/supervisor", name="supervisor"
    )
    script = f"trap 'exit 3' TERM; {FOREVER}"
    more = hooked.poststop() + supervisor
    return running(hooked.create("dumb-init", "sh", "-c", script, image=BUSYBOX, more=more).start())


def users(version: Path) -> set[int]:
    """The processes that have a version's file IN_USE open, or name that version in their command line.

    Another node has a version of the same path: the file tells which is meant.
    """
    in_use, path = os.stat(version / IN_USE), HOME / version.name

    def is_user(process: Path) -> bool:
        for fd in (process / "fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                if os.path.samestat(fd.stat(), in_use):
                    return True
        words = (process / "cmdline").read_text().split("\0")
        seen = Path(f"{process}/root{path}/{IN_USE}")
        return any(word.startswith(f"{path}/") for word in words) and os.path.samestat(seen.stat(), in_use)

    found = set[int]()
    for process in filter(lambda entry: entry.name.isdigit(), Path("/proc").iterdir()):
        with contextlib.suppress(OSError):  # it has ended, or does not see the version
            if is_user(process):
                found.add(int(process.name))
    return found


@pytest.mark.only(runtime="pouchrich")
@in_one_place
@pytest.mark.timeout(300)
def test_pods_keep_the_version_they_began_with_and_it_goes_after_the_last_of_them(
    rich_pods: RichPods, installation: Installation
) -> None:
    """An owed hook whose pod server was killed is run by the other version; and who is killed installs nothing."""
    node, pods = rich_pods.node, rich_pods.pods
    old, known = installation.current(), installation.versions()
    idle = pods.run()
    stays, orphaned = Hooked(rich_pods), Hooked(rich_pods)
    container = with_hooks(stays)
    servers = set(node.shims())
    assert servers <= users(installation.home / old)
    orphan = with_hooks(orphaned)
    assert {version_of(pid) for pid in node.shims()} == {old}

    # Killed in the middle, an installer changes nothing.
    with installation.begin() as installer:
        (left,) = until(lambda: installation.versions() - known, "a directory of its own")
        os.killpg(installer.pid, signal.SIGKILL)
    assert (installation.current(), installation.command_says()) == (old, __version__)
    (installation.home / left / "of the killed one").touch()

    # Another waits for its turn, here while containerd is away and a pod server is killed.
    node.kill_containerd()
    kill_shim(node, "pouchrich", containing=orphan.pod.id)
    with installation.locked():
        installer = installation.begin()
        until(lambda: "waiting for another run" in installation.said(), "the installer to wait")
    assert installer.wait(timeout=INSTALL_TIMEOUT_S) == 0, installation.said()
    new = installation.current()
    assert new.startswith(f"{VERSION}-")
    assert installation.command_says() == VERSION
    assert {old, new} <= installation.versions()
    assert not list(installation.home.glob("*/of the killed one"))
    node.start()
    pods.reconnect()

    # The hook that was owed is the new version's to run,
    assert orphan.wait().state == EXITED
    orphaned.ran_once("137 ShimKilled", timeout_s=20)
    until(lambda: orphaned.lines("supervisor"), "the last hook")
    assert f"/{new}/" in orphaned.lines("supervisor")[0]
    # new pods are the new version's,
    fresh = pods.run()
    assert fresh.run("sh", "-c", "exit 4").wait().exit_code == 4
    assert {version_of(pid) for pid in set(node.shims()) - servers} == {new}
    # and all else is the old one's, though it is done for the first time.
    assert container.shell("echo still here") == "still here\n"
    second = idle.run("sh", "-c", "echo of the old; exit 5", name="second")
    assert second.wait().exit_code == 5
    second.wait_output(b"of the old\n")
    container.stop(grace_s=10)
    assert container.status().exit_code == 3
    stays.ran_once("3 Error dumb-init tests/app")
    assert f"/{old}/" in stays.lines("supervisor")[0]
    assert {version_of(pid) for pid in servers} == {old}
    assert pods.remove_all() == []
    assert not servers & installation.importers()
    assert installation.importers(), "nobody has used the new version"
    assert old in installation.versions()

    # Once nothing runs from it, it goes at the next start that looks.
    until(lambda: not any(map(processes.alive, servers)), "the old pod servers to end")
    until(lambda: not [pid for pid in node.spawners() if version_of(pid) == old], "the old spawner to end")
    until(lambda: not users(installation.home / old), "what the old processes have left behind to end", timeout_s=60)
    long_ago = time.time() - 1000
    os.utime(installation.home / CURRENT, (long_ago, long_ago), follow_symlinks=False)

    os.utime(f"/proc/{node.pid}/root{POSTSTOP_SWEPT}", (long_ago, long_ago))
    pods.run()
    until(lambda: old not in installation.versions(), "the old version to go", timeout_s=60)  # some thousand files
    assert new in installation.versions()


@pytest.mark.only(runtime="pouchrich")
@in_one_place
@pytest.mark.timeout(300)
def test_a_configuration_that_the_version_of_running_pods_refuses_is_told_of(
    rich_pods: RichPods, installation: Installation
) -> None:
    file, depth = configuration.TEST_FILE, f"cgroup-depth = {LATER}"
    pod = rich_pods.pod("dumb-init")
    rich_pods.create(pod, BUSYBOX, "sh", "-c", "exit 3").start().wait()
    old = installation.current()
    with installation.begin() as installer:
        assert installer.wait(timeout=INSTALL_TIMEOUT_S) == 0, installation.said()
    refused = f"version {old}, from which 1 pod runs, refuses it: {file}: rich.cgroup-depth: found {LATER}, allowed"

    before = installation.command("config", "show", file).stdout
    done = installation.command("config", "set-default", "rich.cgroup-depth", str(LATER), "--file", file)
    assert (done.returncode, done.stderr.startswith(f"pouchrich: {refused}")) == (1, True), done.stderr
    assert installation.command("config", "show", file).stdout == before

    fresh = rich_pods.pod("dumb-init", rich=depth)
    done = installation.command("config", "check", file)
    assert (done.returncode, done.stdout) == (0, f"{file}: valid\n")
    assert done.stderr.startswith(f"pouchrich: warning: {refused}"), done.stderr
    # What is told is so:
    with pytest.raises(CallFailed, match=f"rich.cgroup-depth: found {LATER}, allowed"):
        rich_pods.create(pod, BUSYBOX, "true", name="second").start()
    assert rich_pods.create(fresh, BUSYBOX, "sh", "-c", "exit 4").start().wait().exit_code == 4
    # The pods of the older version are gone: nothing is left to refuse it.
    pod.remove()
    until(lambda: not installation.command("config", "check", file).stderr, "the older pod server to end")
    done = installation.command("config", "set-default", "rich.cgroup-depth", str(LATER), "--file", file)
    assert done.returncode == 0, done.stderr
