"""A node without containerd, as far as `start` is concerned: what the tests of the spawner drive and look at."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import google.protobuf

from protos.gen import task_pb2
from runtime.oci import readonly_exec
from shim.installed.version import IN_USE
from shim.ttrpc.client import TtrpcClient

ROOT = Path(__file__).resolve().parents[2]
DEPENDENCIES = Path(google.protobuf.__file__).parents[2]
RUNTIMES = [name for name in readonly_exec.NAMES if shutil.which(name)]
"""The OCI runtimes that the spawner and its children hold (runtime.oci.readonly_exec)."""

STARTER = "import sys; sys.path[:0] = sys.argv[1:3]; del sys.argv[1:3]; from shim.__main__ import main; main()"
PATIENCE_S = 20.0


def until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.01)
    return found


def make_version(directory):
    """Install a copy of the code in `directory`, as hack/install.sh does with its versions; where the packages are."""
    site = directory / "site"
    for package in ("shim", "runtime", "protos"):
        shutil.copytree(ROOT / package, site / package)
    # There from the start, as where the code is compiled: else the first import changes a time in the spawner's key.
    (site / "shim" / "__pycache__").mkdir(exist_ok=True)
    (site / "shim/installed/location.py").write_text(f'VERSION_DIRECTORY = "{directory}"\n')
    (directory / IN_USE).touch(mode=0o600)
    return site


class Node:
    """A containerd, as far as `start` is concerned: this process. Everything it leaves behind ends with `close`."""

    def __init__(self, site):
        self.use(site)
        self.logs = {}

    def use(self, site):
        """Run the code at `site` from now on."""
        self.site = site
        self.program = [sys.executable, "-IS", "-c", STARTER, str(site), str(DEPENDENCIES)]

    def bundle(self, name):
        path = Path("/run/bundles", name)
        path.mkdir(parents=True, exist_ok=True)
        if name not in self.logs:
            (path / "config.json").write_text("{}")
            os.mkfifo(path / "log")
            self.logs[name] = os.open(path / "log", os.O_RDWR | os.O_NONBLOCK)
        return path

    def start(self, name, **how):
        """Run `start` for a new container; the address. `how` is `begin`'s."""
        return self.finish(self.begin(name, **how))

    def begin(self, name, *, env=None, prefix=(), python=(), **popen):
        """Begin `start` for a new container; the process.

        `prefix` is a command line to run it by, `python` are statements that its Python is to begin with.
        """
        program = list(self.program)
        if python:
            program[3] = "\n".join([*python, program[3]])
        return subprocess.Popen(
            [*prefix, *program, "-namespace", "n", "-address", "/run/c.sock", "-id", name, "start"],
            cwd=self.bundle(name),
            env={"PATH": os.environ["PATH"], **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )

    def finish(self, starter):
        """Wait for a `start` to succeed; the address."""
        stdout, stderr = starter.communicate(timeout=60)
        assert starter.returncode == 0, stderr
        assert stdout.startswith("unix:///run/containerd/s/")
        assert stderr == ""
        return stdout

    def log(self, name, words):
        """Wait until the pod server's log has `words`; all of it."""
        text = b""

        def read():
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                text += os.read(self.logs[name], 65536)
            return words.encode() in text

        until(read, f"{words!r} in the log of {name}, which has {text!r}")
        return text.decode()

    def servers(self, name):
        """The pids of a container's pod servers, of which there should be one."""
        title = f"containerd-shim-pouchrich-v2\0-namespace\0n\0-id\0{name}\0-address\0/run/c.sock\0"
        return [pid for pid in pids() if cmdline(pid).startswith(title) and is_below(pid)]

    def server(self, name):
        """The pid of the pod server of a container."""
        return until(lambda: self.servers(name), f"{name}'s server")[0]

    def prefork(self, spawner):
        """The pid of the child that the spawner has ready."""
        return until(lambda: [pid for pid in pids() if is_prefork(pid) and parent(pid) == spawner], "a prefork child")[
            0
        ]

    def spawner_socket(self):
        """Where the one spawner listens."""
        (path,) = Path("/run/pouchrich").glob("spawner-*.sock")
        return path

    def spawner(self, *, other_than=()):
        """The pid of the spawner, once it listens; of one that is not in `other_than`."""

        def listening():
            for path in Path("/run/pouchrich").glob("spawner-*.sock"):
                peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                try:
                    peer.connect(str(path))
                except OSError:
                    continue
                finally:
                    peer.close()
                with contextlib.suppress(OSError):
                    pid, _, ready = Path(f"{path}.lock").read_text().partition(" ")
                    if ready and alive(int(pid)) and int(pid) not in other_than:
                        return int(pid)
            return 0

        return until(listening, "a spawner")

    def close(self):
        for _ in range(200):
            left = [pid for pid in pids() if pid != os.getpid() and is_below(pid)]
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            reap()
            time.sleep(0.01)


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def status(pid, key):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(key + ":"))


def parent(pid):
    try:
        return int(status(pid, "PPid"))
    except OSError:
        return 0


def links(pid):
    """What a process has open: descriptor -> what it is. Of a mount that is nowhere that is /."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(entry.name)] = os.readlink(entry)
    return found


def is_below(pid):
    try:
        while pid > 1:
            if pid == os.getpid():
                return True
            pid = int(status(pid, "PPid"))
    except OSError:
        pass
    return False


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def alive(pid):
    reap()
    try:
        return status(pid, "State")[0] not in "ZX"
    except OSError:
        return False


def ended(pid):
    """Wait until a process has ended and been collected: to others a zombie is still there."""
    return until(lambda: not alive(pid) and not os.path.exists(f"/proc/{pid}"), f"process {pid} to end")


def is_spawner(pid):
    """Whether it is one, or on its way to be one."""
    return ("pouchrich-spawner" in cmdline(pid) and not is_prefork(pid)) or "entry.main(sys.argv" in cmdline(pid)


def is_prefork(pid):
    """Whether it is a spawner's child that waits for a request."""
    return cmdline(pid).startswith("pouchrich-spawner\0prefork")


def configure(text):
    os.makedirs("/etc/pouchrich", exist_ok=True)
    Path("/etc/pouchrich/config.toml").write_text("version = 1\n" + text)


def no_spawner():
    """Give one that is on its way the time to show; the launcher decides before it becomes a spawner."""
    until(lambda: not any(is_spawner(pid) or "\0start\0" in cmdline(pid) for pid in pids() if is_below(pid)), "quiet")
    return not list(Path("/run/pouchrich").glob("spawner-*")) if os.path.exists("/run/pouchrich") else True


async def answering(address):
    """Connect once and hang up: the server is then past all of its set-up."""
    client = await TtrpcClient.connect(address)
    request = task_pb2.ConnectRequest(id="x")
    found = await client.call("containerd.task.v2.Task", "Connect", request, task_pb2.ConnectResponse, timeout_s=10)
    client.close()
    return found.shim_pid


def serves(node, name, address):
    """The pid of the one server that a container has, which answers at its address."""
    server = asyncio.run(answering(address))
    assert node.servers(name) == [server]
    return server


def waiting(path):
    """Whether somebody has connected to a socket (unix(7): 01 is the state of one that waits to be accepted)."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(f" {path}")]
    return any(fields[5] == "02" for fields in lines)
