"""A node of the tests' own: one containerd with its root, state, socket and cgroups, under one reaper."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.cri.client import Client
from tests.integration import binaries, configuration, images, isolation, processes
from tests.integration.waiting import until

START_TIMEOUT_S = 30.0
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
ROOT = Path(__file__).resolve().parents[2]


SWITCHES = {"POUCHRICH_SPAWNER": "off"} if os.environ.get("POUCHRICH_SPAWNER") == "off" else {}
"""What containerd, and so our shim, gets from the run's environment (`tests.integration.spawners`)."""


class Node:
    """A running containerd of `version` whose handlers use the OCI runtime `oci` ("runc", "crun").

    `base` holds all its files; `cgroup` is the parent for everything it runs; `pid` is the reaper's. `removals` are the
    reapers of nodes that are closed, which may still be about to remove files.
    """

    removals: ClassVar[list["subprocess.Popen[str]"]] = []

    def __init__(self, version: str, oci: str, image_tars: list[Path], *, log_level: str = "debug") -> None:
        self.version = version
        self._log_level = log_level
        self.oci = binaries.oci(version, oci)
        self.base = Path(tempfile.mkdtemp(prefix=f"pouchrich-{binaries.release(version)}-{oci}-"))
        self.base.chmod(0o711)  # root of a user namespace has to get through to its rootfs
        self.cgroup = f"/{self.base.name}"
        release = binaries.release(version)
        self.settings = configuration.Settings(release, self.base, self.oci, _snapshotter(self.base), images.PAUSE)
        self.socket = self.settings.socket
        self.log = self.base / "containerd.log"
        self.containerd_pid = 0
        scratch = Path("/run/pouchrich-tests") / self.base.name
        scratch.mkdir(parents=True)
        self._reaper = self._start_reaper(scratch, hide_unified=oci == "crun")
        self.pid = self._answer()["pid"]
        self._write_files()
        self.start()
        self._import(image_tars)

    def _start_reaper(self, scratch: Path, *, hide_unified: bool) -> "subprocess.Popen[str]":
        private = [Path("/etc"), Path("/var/lib")]
        if (installed := binaries.prefix() / "etc").exists():
            private.append(installed)
        argv = [sys.executable, "-m", "tests.integration.reaper", "--scratch", str(scratch), *map(str, private)]
        argv += ["--base", str(self.base), "--cgroup", self.cgroup]
        if hide_unified:
            argv.append("--hide-unified")
        pipe = subprocess.PIPE
        # A session of its own: Ctrl-C ends the tests, which then end the node.
        return subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True)

    def _answer(self) -> dict[str, Any]:
        assert self._reaper.stdout is not None
        line = self._reaper.stdout.readline()
        if not line:
            raise AssertionError(f"the reaper ended with status {self._reaper.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _command(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._reaper.stdin is not None
        self._reaper.stdin.write(json.dumps(command) + "\n")
        self._reaper.stdin.flush()
        return self._answer()

    def run_directory(self, container_id: str) -> Path:
        """What the shim keeps for a container of Kubernetes' in a file system of its own, which only the node sees."""
        return Path(f"/proc/{self.pid}/root/run/pouchrich/containers/k8s.io", container_id)

    def _write_files(self) -> None:
        self.write_files(configuration.node_files(self.settings))
        (self.base / "cni").mkdir()
        (self.base / "cni" / "10-bridge.conflist").write_text(configuration.cni(self.settings))
        (self.base / "config.toml").write_text(configuration.containerd(self.settings))

    def write_files(self, files: dict[str, str]) -> None:
        """Write files below /etc, /var/lib or the shim's configuration directory, which are the node's own."""
        self._command({"files": files})

    def spawn(self, argv: list[str], log: Path, env: Mapping[str, str] | None = None) -> int:
        """Start a process of the node beside containerd, in its namespaces: its pid."""
        whole = {"PATH": PATH, "LC_ALL": "C.UTF-8", "TMPDIR": str(self.base), **(env or {})}
        pid: int = self._command({"argv": argv, "env": whole, "log": str(log)})["pid"]
        return pid

    def start(self) -> None:
        """Start containerd and wait until its CRI answers."""
        daemon = binaries.containerd(self.version)
        first = [str(binaries.prefix() / "bin"), str(daemon.parent), str(self.oci.parent)]
        argv = [str(daemon), "--config", str(self.base / "config.toml"), "--log-level", self._log_level]
        self.containerd_pid = self.spawn(argv, self.log, {"PATH": ":".join([*first, PATH]), **SWITCHES})
        until(self._ready, f"containerd {self.version} to answer; see {self.log}", timeout_s=START_TIMEOUT_S)

    def _ready(self) -> bool:
        if not processes.alive(self.containerd_pid):
            raise AssertionError(f"containerd {self.version} ended at start:\n{self.log_tail()}")
        if not self.socket.exists():
            return False
        with Client(self.socket) as client:
            return client.ready()

    def kill_containerd(self, number: int = signal.SIGKILL) -> None:
        """Signal containerd and wait until it is gone; shims and containers stay."""
        os.kill(self.containerd_pid, number)
        until(lambda: not processes.alive(self.containerd_pid), "containerd to end")

    @contextlib.contextmanager
    def lxcfs(self) -> Iterator[int]:
        """lxcfs at its usual place for the length of the `with`: its pid. Raises FileNotFoundError."""
        program, env = binaries.lxcfs()
        mount = "/var/lib/lxcfs"
        Path(f"/proc/{self.pid}/root{mount}").mkdir(exist_ok=True)
        argv = [str(program), "-f", "-p", str(self.base / "lxcfs.pid"), mount]
        pid = self.spawn(argv, self.base / "lxcfs.log", env)
        try:
            until(lambda: " fuse.lxcfs " in Path(f"/proc/{self.pid}/mountinfo").read_text(), "lxcfs to mount")
            yield pid
        finally:
            if processes.alive(pid):
                os.kill(pid, signal.SIGKILL)
            until(lambda: not processes.alive(pid), "lxcfs to end")
            subprocess.run(["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "umount", "-l", mount], check=True)

    @contextlib.contextmanager
    def rebooted(self) -> Iterator[None]:
        """The node after a power cut and a start: no process, mount or cgroup is left, and nothing of /run.

        For the length of the `with` it reads another boot id. What containerd keeps in its root and the shim in
        /var/lib is there still. At the end containerd is started once more: only then does it remove its directories
        for the tasks of before.
        """
        gone = [str(self.base / "state"), "/run/containerd", "/run/pouchrich", "/run/netns"]
        self._command({"halt": gone})
        self._command({"boot_id": str(uuid.uuid4())})
        try:
            self.start()
            yield
        finally:
            self._command({"boot_id": ""})
            self.kill_containerd()
            self.start()

    def _import(self, tars: list[Path]) -> None:
        for namespace in ("default", "k8s.io"):
            for tar in tars:
                self.ctr("-n", namespace, "images", "import", "--snapshotter", self.settings.snapshotter, str(tar))
        with Client(self.socket) as client:
            until(lambda: all(map(client.has_image, (images.PAUSE, images.BUSYBOX))), "CRI to see the images")

    def ctr_argv(self, *args: str) -> list[str]:
        """The command line of this node's ctr, which from 2.2 on warns of cgroup v1 unless it is told not to."""
        quiet = ["env", "CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS=1"]
        return [*quiet, str(binaries.containerd(self.version, "ctr")), "-a", str(self.socket), *args]

    def ctr(self, *args: str, timeout_s: float = 60.0) -> str:
        """Run ctr and return its stdout. Raises AssertionError with its stderr."""
        done = subprocess.run(self.ctr_argv(*args), capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            raise AssertionError(f"ctr {' '.join(args)}: exit status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def client(self) -> Client:
        """A new connection to its CRI."""
        return Client(self.socket)

    def log_tail(self, lines: int = 25) -> str:
        """The end of containerd's log, which has the shims' lines too, without the plainly irrelevant."""
        text = self.log.read_text(errors="replace").splitlines()
        chatter = ("loading plugin", "snapshot", "garbage", "image", "sd notification")
        return "\n".join([line for line in text if not any(word in line for word in chatter)][-lines:])

    def below(self) -> list[int]:
        """The pids of everything the node runs except containerd itself and the shims' spawner, which stays a while."""
        return [
            pid
            for pid in processes.descendants(self.pid)
            if pid != self.containerd_pid and not processes.is_spawner(pid)
        ]

    def spawners(self) -> list[int]:
        """The pids of the shims' spawners, one or in between two, and of the children that they have ready."""
        return [pid for pid in processes.descendants(self.pid) if processes.is_spawner(pid)]

    def shims(self, *, containing: str = "") -> list[int]:
        """The pids of shim servers whose command line contains the text."""
        found = []
        for pid in self.below():
            words = processes.command(pid).split()
            serves = any("containerd-shim-" in word for word in words) and words[-1] not in (
                "start",
                "delete",
            )
            if serves and containing in " ".join(words):
                found.append(pid)
        return found

    def bundle_of(self, identity: str, *, namespace: str = "k8s.io") -> Path:
        """The bundle that our shim has of a container; of a pod's further one that is not containerd's."""
        own = list(Path("/run/pouchrich/pods", namespace).glob(f"*/{identity}"))
        return own[0] if own else self.base / "state/io.containerd.runtime.v2.task" / namespace / identity

    def socket_of(self, identity: str) -> Path:
        """Where the shim of a container, or of a pod's sandbox, serves in containerd's namespace for Kubernetes."""
        bundle = self.base / "state" / "io.containerd.runtime.v2.task" / "k8s.io" / identity
        return Path((bundle / "address").read_text().removeprefix("unix://"))

    def records(self) -> Iterator[Path]:
        """The records of poststop hooks that are still owed; /var/lib is the node's own."""
        return Path(f"/proc/{self.pid}/root/var/lib/pouchrich").rglob("*.jsonl")

    def close(self) -> None:
        """End everything and have every trace removed: the reaper does, when it loses its input."""
        assert self._reaper.stdin is not None
        assert self._reaper.stdout is not None
        self._reaper.stdin.close()
        self.removals.append(self._reaper)
        self._answer()
        self._reaper.stdout.close()

    @classmethod
    def await_removals(cls) -> None:
        """Wait until the files of all that were closed are gone."""
        reapers = cls.removals.copy()
        cls.removals.clear()
        failed = [reaper.args for reaper in reapers if reaper.wait() != 0]
        assert failed == []


def _snapshotter(base: Path) -> str:
    """overlayfs where base's file system can carry one, else native (plain copies)."""
    trial = base / "overlay-trial"
    trial.mkdir()
    (trial / "lower").mkdir()
    try:
        isolation.overlay(trial / "lower", trial)
    except OSError:
        return "native"
    isolation.detach(trial / "lower")
    shutil.rmtree(trial)
    return "overlayfs"


@contextlib.contextmanager
def running(version: str, oci: str, image_tars: list[Path], *, log_level: str = "debug") -> Iterator[Node]:
    """A node for the length of a `with`. `log_level` is containerd's, and so the shim's."""
    node = Node(version, oci, image_tars, log_level=log_level)
    try:
        yield node
    finally:
        node.close()
        Node.await_removals()
