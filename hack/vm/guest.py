"""The guest's side of the emulated machine: containerd, containers made with `ctr`, and one line per check.

All checks take the arguments: the directory of the installed packages, and the cgroup driver (cgroupfs or systemd).
A line has `ok` or `FAIL`, the case, and what was checked; after FAIL also what was found.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from protos.gen import task_pb2
from shim.ttrpc.client import TtrpcClient

TOP = Path("/sys/fs/cgroup")
DRIVER = sys.argv[2]
PARENT = "system.slice" if DRIVER == "systemd" else "pods"
BUNDLES = Path("/run/containerd/io.containerd.runtime.v2.task/default")
LOGS = Path("/run/logs")
PATIENCE_S = 120.0
MIB = 1 << 20
LIMIT = 192 * MIB
STOP_TIMEOUT_S = 60


def option(name: str, default: str) -> list[str]:
    """The value of `vm.NAME` in the kernel's command line: words separated by commas."""
    found = re.search(rf"\bvm\.{name}=(\S+)", Path("/proc/cmdline").read_text())
    return (found[1] if found else default).split(",")


PREFIX = Path(option("prefix", str(Path(sys.argv[1]).parents[6]))[0])
"""Where the checked shim is installed; these checks use the packages of another installation."""

OCIS = tuple(option("ocis", "crun,runc"))
IMAGES = {"plain": "systemd", "dumb-init": "systemd", "systemd": "systemd", "sbin-init": "sbin-init"}
"""Mode -> image."""

INITS = {"dumb-init": "dumb-init", "systemd": "systemd", "sbin-init": "init"}
"""Mode -> the kernel's name of PID 1."""

# The shell waits with its own `wait`, so that it handles a signal at once.
APPLICATION = """[ $PPID = 0 ] || { read -r parent </proc/$PPID/comm; echo $parent; }
trap 'echo stopping; exit 42' TERM
sleep 1000 &
echo ready
wait
"""
"""Prints its parent's name, unless it is PID 1 itself, and its own events; exits with 42 after TERM."""

failures = 0
case = ""


def check(what: str, holds: bool, found: object = "") -> None:
    """Print one line."""
    global failures
    failures += not holds
    words = f"ok   {case}: {what}" if holds else f"FAIL {case}: {what}: found {found!r}"
    print(words.replace("\n", " | "), flush=True)


def equal(what: str, found: object, wanted: object) -> None:
    check(f"{what} is {wanted}", found == wanted, found)


def until(holds: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
    """Wait until `holds` returns true; return whether it did so in time."""
    end = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, errors="replace", check=False)


def ctr(*args: str) -> str:
    done = run("ctr", *args)
    if done.returncode:
        raise RuntimeError(f"ctr {' '.join(args)}: {done.stderr}")
    return done.stdout


def text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as err:
        return f"{err.strerror}"


class Container:
    """A container started with `ctr run --detach` and `options`. `id` is containerd's."""

    NAMESPACE = "default"

    def __init__(
        self, name: str, image: str, config: str, *command: str, memory: int = LIMIT, options: Sequence[str] = ()
    ) -> None:
        self.name = self.id = name
        self.log = LOGS / name
        self.cgroup = TOP / PARENT / (f"vm-{name}.scope" if DRIVER == "systemd" else name)
        file = Path(f"/etc/vm/{name}.toml")
        file.write_text(f"version = 1\n{config}")
        path = f"{PARENT}:vm:{name}" if DRIVER == "systemd" else f"/{PARENT}/{name}"
        place = ("--cgroup", path, "--memory-limit", str(memory), "--log-uri", f"file://{self.log}")
        kind = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", str(file))
        ctr("run", "--detach", *kind, *place, *options, image, name, *command)

    def ctr(self, *args: str) -> str:
        return ctr("--namespace", self.NAMESPACE, *args)

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        return run("ctr", "tasks", "exec", "--exec-id", f"x{time.monotonic_ns()}", self.name, *command)

    def shell(self, script: str) -> str:
        done = self.exec("/bin/sh", "-c", script)
        return (done.stdout + done.stderr).strip()

    def status(self) -> str:
        lines = [line.split() for line in self.ctr("tasks", "ls").splitlines()]
        return next((line[2] for line in lines if line[0] == self.id), "")

    def has_ended(self) -> bool:
        return self.status() in ("STOPPED", "")

    def pid(self) -> int:
        lines = [line.split() for line in self.ctr("tasks", "ls").splitlines()]
        return next(int(line[1]) for line in lines if line[0] == self.id)

    def metrics(self) -> dict[str, str]:
        pairs = (line.split() for line in self.ctr("tasks", "metrics", self.id).splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def update(self, resources: dict[str, object]) -> None:
        """Call containerd's Update, for which ctr has no verb."""
        asyncio.run(self._update(resources))

    async def _update(self, resources: dict[str, object]) -> None:
        client = await TtrpcClient.connect((BUNDLES / self.name / "address").read_text())
        packed = Any(
            type_url="types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
            value=json.dumps(resources).encode(),
        )
        request = task_pb2.UpdateTaskRequest(id=self.name, resources=packed)
        await client.call("containerd.task.v2.Task", "Update", request, Empty, timeout_s=PATIENCE_S)
        client.close()

    def end(self, word: str = "") -> int:
        """Signal the container, wait for its end, remove it, and return its exit status; -1 if it does not end."""
        if word:
            ctr("tasks", "kill", "--signal", word, self.name)
        if not until(lambda: self.status() == "STOPPED"):
            run("ctr", "tasks", "kill", "--signal", "KILL", self.name)
            until(lambda: self.status() == "STOPPED")
            run("ctr", "tasks", "rm", self.name)
            run("ctr", "containers", "rm", self.name)
            return -1
        done = run("ctr", "tasks", "rm", self.name)
        told = re.search(r"non-zero exit code (\d+)", done.stderr)
        ctr("containers", "rm", self.name)
        return int(told[1]) if told else 0

    def forget(self) -> None:
        """Remove the container in whatever state."""
        run("ctr", "tasks", "rm", "--force", self.name)
        ctr("containers", "rm", self.name)

    def is_gone(self, patience_s: float = 0.0) -> None:
        """Check that its cgroups are gone. systemd removes a scope asynchronously; OCI runtimes do so at once."""
        until(lambda: not self.left(), patience_s or (10 if DRIVER == "systemd" else 0))
        equal("what is left of its cgroups", self.left(), [])

    def left(self) -> list[str]:
        """Its remaining cgroups, and those of agents beside it."""
        return sorted(str(path) for path in (TOP / PARENT).glob(f"{self.cgroup.name}*"))


@contextmanager
def of(name: str) -> Iterator[None]:
    """A context for the checks of one case: an exception becomes a failed check."""
    global case
    case = name
    began = time.monotonic()
    try:
        yield
    except Exception as err:
        traceback.print_exc()
        check("runs to its end", False, err)
        for line in run("ctr", "tasks", "ls", "-q").stdout.split():
            run("ctr", "tasks", "rm", "--force", line)
    print(f"     {case}: {time.monotonic() - began:.0f} s", flush=True)


def configured(oci: str, mode: str, more: str = "") -> str:
    timeouts = f'start-timeout = "5m"\nstop-timeout = "{STOP_TIMEOUT_S}s"'
    rich = "enabled = false" if mode == "plain" else f'mode = "{mode}"\n{timeouts}'
    return f'[runtime]\nbinary = "{oci}"\n[rich]\n{rich}\n{more}'


def run_checks(checks: Callable[[], None], *, configuration: str = "") -> int:
    """Run the checks with a containerd, and return the exit status: 1 if a check failed.

    Without a `configuration` the containerd has no CRI plugin.
    """
    os.environ["PATH"] = f"{PREFIX}/bin:{os.environ['PATH']}"
    for directory in (LOGS, "/etc/vm"):
        os.makedirs(directory, exist_ok=True)
    log, file = LOGS / "containerd", Path("/vm/containerd.toml")
    if configuration:
        file = Path("/etc/vm/containerd.toml")
        file.write_text(configuration)
    with log.open("wb") as said:
        daemon = subprocess.Popen(["containerd", "--config", str(file)], stdout=said, stderr=said)
    check("containerd answers", until(lambda: run("ctr", "version").returncode == 0), text(log))
    checks()
    daemon.terminate()
    daemon.wait()
    print(text(log) if failures else "", flush=True)
    print(f"{failures} checks failed", flush=True)
    return 1 if failures else 0
