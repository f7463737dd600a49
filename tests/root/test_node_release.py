"""A release on a node whose root is a directory, as a DaemonSet's pod has it, with a real containerd of that node."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pouchrich import running
from runtime.linux import syscalls
from shim import __version__
from tests.integration import binaries, processes
from tests.root import bare_root
from tests.root.bare_root import BareRoot

CHANGED = ("/etc", "/opt", "/usr/local/bin", "/var/lib")
PATIENCE_S = 60.0
HOLD = Path("/etc/pouchrich/hold")
CONFIGURATION = {
    "1": 'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\n[grpc]\n  address = "{base}/c.sock"\n',
    "2": 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\nroot = "{base}/root"\nstate = "{base}/state"\n'
    '[grpc]\n  address = "{base}/c.sock"\n',
}

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


class Node:
    """A node whose /etc, /opt and so on are this mount namespace's own, seen as a pod sees it: at `root`."""

    another_version = BareRoot.another_version

    def __init__(self, base, release):
        self.base = base
        self.path = base / "releases"
        syscalls.set_child_subreaper()
        syscalls.mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
        if os.path.ismount("/sys/fs/cgroup/unified"):
            subprocess.run(["umount", "/sys/fs/cgroup/unified"], check=True)  # crun refuses both
        for number, directory in enumerate(CHANGED):
            for name in ("up", "work"):
                os.makedirs(f"/run/overlay/{number}/{name}")
            options = f"lowerdir={directory},upperdir=/run/overlay/{number}/up,workdir=/run/overlay/{number}/work"
            syscalls.mount("overlay", directory, "overlay", 0, options)
        for directory in ("/etc/containerd", "/etc/pouchrich", "/opt/pouchrich", "/var/lib/pouchrich"):
            shutil.rmtree(directory, ignore_errors=True)
        os.makedirs("/etc/containerd")
        for name in ("pouchrich", "containerd-shim-pouchrich-v2"):
            Path("/usr/local/bin", name).unlink(missing_ok=True)
        self.before = self.files()
        self.root = base / "host"
        self.root.mkdir()
        syscalls.mount("/", str(self.root), None, syscalls.MS_BIND | syscalls.MS_REC)
        for directory in CHANGED:
            syscalls.mount(directory, f"{self.root}{directory}", None, syscalls.MS_BIND)
        self.image = base / "image"
        (self.image / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.image / "bin/busybox")
        subprocess.run([bare_root.CHROOT, self.image, "/bin/busybox", "--install", "-s", "/bin"], check=True)
        (self.path / "tmp").mkdir(parents=True)
        subprocess.run(["tar", "-C", self.path / "tmp", "--zstd", "-xf", release], check=True)
        (self.unpacked,) = (self.path / "tmp").iterdir()
        self.loop = None

    def start(self, release, config="/etc/containerd/config.toml"):
        program = binaries.containerd(release)
        crun = binaries.oci(release, "crun")
        Path(config).write_text(CONFIGURATION[release[0]].format(base=self.base))
        self.configuration = Path(config).read_text()
        env = {"PATH": f"/usr/local/bin:{crun.parent}:{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
        loop = f"while :; do {program} --config {config} >>{self.base}/log 2>&1; done"
        self.loop = subprocess.Popen(["sh", "-c", loop], env=env)
        self.ctr_program = str(binaries.containerd(release, "ctr"))
        self.until(lambda: self.ctr("version")[0] == 0)

    @property
    def containerd(self):
        found = running.find((("containerd", f"{self.base}/c.sock"),))
        return found[0].pid if found else 0

    def until(self, condition):
        end = time.monotonic() + PATIENCE_S
        while not (found := condition()):
            assert time.monotonic() < end, Path(f"{self.base}/log").read_text()[-3000:]
            time.sleep(0.05)
        return found

    def files(self):
        """Whatever is in the directories that may change, by lists of their overlays: mode, contents."""
        found = {}
        for number, _ in enumerate(CHANGED):
            for path in sorted(Path(f"/run/overlay/{number}/up").rglob("*")):
                data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
                found[str(path)] = (path.lstat().st_mode, data)
        return found

    def argv(self, verb, *words, unpacked=None):
        """`pouchrich node VERB --root`, as an image's."""
        return [f"{unpacked or self.unpacked}/pouchrich", "node", verb, "--root", str(self.root), *words]

    def node(self, verb, *words, unpacked=None):
        """Run that: exit status, and what it printed."""
        argv = self.argv(verb, *words, unpacked=unpacked)
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, done.stdout + done.stderr

    def install(self, *words, unpacked=None):
        how = ("--containerd", "auto", "--address", f"{self.base}/c.sock", "--restart", f"kill {self.containerd}")
        return self.node("install", *how, *words, unpacked=unpacked)

    def ctr(self, *words):
        argv = [self.ctr_program, "--address", f"{self.base}/c.sock", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return done.returncode, done.stdout + done.stderr

    def run(self, name, script, *words):
        of_image = ("--rootfs", "--env", "PATH=/bin", "--runtime", "io.containerd.pouchrich.v2", str(self.image))
        return self.ctr("run", *words, *of_image, name, "sh", "-c", script)

    def close(self):
        if self.loop is not None:
            self.loop.kill()
            self.loop.wait()
            if pid := self.containerd:
                os.kill(pid, signal.SIGTERM)
                self.until(lambda: os.waitpid(pid, os.WNOHANG)[0])
        for pid in processes.descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def on_node(isolated, tmp_path):
    """Run `action(node)` on one whose containerd is of a release, in an isolated child.

    `prepare(node)` runs before containerd, and returns arguments for `Node.start`.
    """
    release = bare_root.artefact()
    if release is None:
        pytest.skip("no release in dist/: hack/release.sh makes one")

    def run(containerd, action, prepare=lambda node: {}):
        def inside():
            node = Node(tmp_path, release)
            try:
                node.start(containerd, **prepare(node))
                action(node)
            finally:
                node.close()

        isolated(inside)

    return run


@pytest.mark.full
@pytest.mark.parametrize("containerd", ["2.1", "1.7"])
def test_a_node_takes_it_up_upgrades_rolls_back_and_is_as_before(on_node, containerd):
    def check(node):
        pid = node.containerd
        status, said = node.install()
        assert (status, "restarting containerd: kill" in said) == (0, True), said
        assert node.containerd != pid
        pid = node.containerd
        there = node.files()
        assert node.install()[0] == 0
        assert (node.containerd, node.files()) == (pid, there)
        found = json.loads(node.node("status", "--json")[1])
        assert (found["current"], found["containerd"]["loaded"], found["previous"]) == (__version__, True, "")

        # One goes on through an upgrade and the way back, with the version that it began with.
        assert node.run("long", "trap 'exit 5' TERM; while :; do sleep 0.1; done", "-d")[0] == 0
        HOLD.write_text("not on a Friday\n")
        newer = f"{node.path}{node.another_version(f'/tmp/{node.unpacked.name}', '99.1')}"
        status, said = node.install(unpacked=newer)
        assert (status, "held by /etc/pouchrich/hold: not on a Friday: nothing was changed" in said) == (1, True), said
        HOLD.unlink()
        status, said = node.install(unpacked=newer)
        assert (status, os.readlink("/opt/pouchrich/current"), node.containerd) == (0, "99.1", pid), said
        assert node.run("new", "exit 7", "--rm")[0] == 7
        status, said = node.node("rollback")
        assert (status, os.readlink("/opt/pouchrich/current"), node.containerd) == (0, __version__, pid), said
        assert node.run("old", "exit 6", "--rm")[0] == 6
        status, said = node.install("--unattended", unpacked=newer)
        assert (status, "99.1 was rolled back on this node" in said) == (1, True), said
        found = json.loads(node.node("status", "--json")[1])
        assert (found["current"], found["previous"], found["rejected"]) == (__version__, "99.1", "99.1")
        assert [re.search("-id (\\w+)", one)[1] for one in found["needed_by"]] == ["long"]

        before = node.files()
        status, said = node.node("uninstall", "--restart", "false")
        assert (status, "-id long" in said, node.files()) == (1, True, before), said
        argv = node.argv("uninstall", "--wait", "60", "--restart", f"kill {pid}")
        uninstalling = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert uninstalling.stdout.readline() == "waiting: these need the shim:\n"
        ends = "ctr task kill long; while ctr task ls -q | grep -q long; do ctr task rm long; sleep 0.2; done"
        ending = subprocess.Popen(["sh", "-c", ends.replace("ctr", f"{node.ctr_program} -a {node.base}/c.sock")])
        said = uninstalling.communicate(timeout=PATIENCE_S)[0]
        assert (uninstalling.returncode, said.splitlines()[-1]) == (0, "uninstalled from /opt/pouchrich"), said
        assert ending.wait() == 0
        assert node.containerd != pid
        assert Path("/etc/containerd/config.toml").read_text() == node.configuration
        after = {name: one for name, one in node.files().items() if not name.endswith("/containerd/config.toml")}
        assert after == node.before
        assert node.node("status")[0] == 1

    on_node(containerd, check)


@pytest.mark.parametrize("directory", ["/mnt", "/srv"])
def test_containerds_configuration_may_be_anywhere_on_the_node(on_node, directory):
    """Such as below /mnt, where many keep k3s's data: that is not the artefact's place."""
    config = Path(f"{directory}/data/config.toml")

    def prepare(node):
        syscalls.mount("tmpfs", directory, "tmpfs", 0, "mode=0755")
        syscalls.mount(directory, f"{node.root}{directory}", None, syscalls.MS_BIND)
        config.parent.mkdir()
        return {"config": str(config)}

    def check(node):
        killed = subprocess.Popen(["true"])
        killed.wait()
        os.mkdir(f"/run/pouchrich-node-{killed.pid}")
        status, said = node.install()
        assert (status, f"put the handler into {config}" in said) == (0, True), said
        assert "runtimes.pouchrich" in config.read_text()
        assert node.node("status")[0] == 0
        assert node.node("uninstall", "--restart", f"kill {node.containerd}")[0] == 0
        assert config.read_text() == node.configuration
        assert not list(Path("/run").glob("pouchrich-node-*"))

    on_node("1.6", check, prepare)


def test_what_a_node_lacks_is_said_with_the_way_out_and_nothing_is_changed(on_node):
    def check(node):
        before = node.files()
        syscalls.mount("tmpfs", "/opt", "tmpfs", syscalls.MS_NOEXEC, "size=8m")
        syscalls.mount("/opt", f"{node.root}/opt", None, syscalls.MS_BIND)
        status, said = node.install()
        assert (status, node.files(), os.listdir("/opt")) == (1, before, [])
        assert "/opt: it is mounted noexec" in said
        assert "-> remount it, or install elsewhere: --prefix DIR" in said
        status, said = node.node("install", "--containerd", "k3s")
        assert (status, "found none of kind k3s that listens at /run/containerd/containerd.sock" in said) == (
            1,
            True,
        ), said

    on_node("2.1", check)
