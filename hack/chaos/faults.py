"""Makes the faults of a round."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hack.chaos.clients import Maker
from hack.chaos.disk import Disk
from hack.chaos.life import Strike, Strikes
from hack.chaos.plan import FaultPlan
from runtime.hooks.journal import parse_journal
from tests.cri.client import CallFailed
from tests.integration import processes
from tests.integration.node import Node

SOON_S = 0.6
"""How long to look for a short-lived process."""

RUNNER_S = 2.0


class Faults:
    """Makes faults on a node. `disk` is None if no disk may be made full."""

    def __init__(self, node: Node, maker: Maker, strikes: Strikes, disk: Disk | None) -> None:
        self._node = node
        self._maker = maker
        self._strikes = strikes
        self._disk = disk
        self._kinds: dict[str, Callable[[FaultPlan], None]] = {
            "server": lambda plan: self._kill(plan, self._node.shims()),
            "spawner": lambda plan: self._kill(plan, self._spawners(prefork=False)),
            "prefork": lambda plan: self._kill(plan, self._spawners(prefork=True)),
            "oci": lambda plan: self._kill(plan, self._soon(self._is_oci, plan)),
            "command": self._command,
            "containerd": self._containerd,
            "runner": self._runner,
            "init": self._init,
            "stop-server": lambda plan: self._pause(plan, self._node.shims()),
            "stop-spawner": lambda plan: self._pause(plan, self._spawners(prefork=False)),
            "stop-oci": lambda plan: self._pause(plan, self._soon(self._is_oci, plan)),
            "consumer": lambda plan: self._pause(plan, [self._node.containerd_pid]),
            "disk": self._fill,
        }

    def make(self, plans: Sequence[FaultPlan]) -> None:
        """Make all faults, one after the other. Raises AssertionError if containerd does not come back."""
        for plan in plans:
            time.sleep(plan.after_s)
            with suppress(ProcessLookupError):
                self._kinds[plan.kind](plan)

    def _kill(self, plan: FaultPlan, pids: Sequence[int]) -> None:
        if pids:
            with self._held(pids[int(plan.pick * len(pids))], plan.kind) as (fd, strike):
                strike.words += _socket_of(strike.words)
                if plan.kind == "server" and not list(self._node.base.glob(f"state/*/*/{strike.pod}")):
                    strike.given_up = True
                    strike.words += _listening(strike.pid)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                strike.ended = time.monotonic()
                if plan.kind in ("server", "runner"):
                    strike.begun = frozenset(self._begun())
                self._strikes.add(strike)

    def _begun(self) -> Iterator[tuple[str, str]]:
        """The poststop hooks that have begun and not ended, by the records that the next runner reads too."""
        for path in self._node.records():
            with suppress(FileNotFoundError):
                account, _ = parse_journal(path.read_bytes())
                for number in account.interrupted:
                    yield account.head["subject"]["id"], account.head["hooks"][number]["where"]

    def _pause(self, plan: FaultPlan, pids: Sequence[int]) -> None:
        if pids:
            with self._held(pids[int(plan.pick * len(pids))], plan.kind) as (fd, strike):
                signal.pidfd_send_signal(fd, signal.SIGSTOP)
                time.sleep(plan.length_s)
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGCONT)
                strike.ended = time.monotonic()
                self._strikes.add(strike)

    def _command(self, plan: FaultPlan) -> None:
        found = self._soon(_is_command, plan)
        time.sleep(plan.length_s)
        self._kill(plan, [pid for pid in found if _is_command(pid)])

    def _containerd(self, plan: FaultPlan) -> None:
        strike = Strike(plan.kind, time.monotonic(), 0.0, self._node.containerd_pid)
        self._node.kill_containerd()
        time.sleep(plan.length_s)
        self._node.start()
        self._maker.pods.reconnect()
        strike.ended = time.monotonic()
        self._strikes.add(strike)

    def _runner(self, plan: FaultPlan) -> None:
        """Kill the server of a pod whose containers have hooks, and then the runner of these hooks."""
        pods = {life.pod for life in self._maker.running() if life.rich}
        servers = [pid for pid in self._node.shims() if any(pod in processes.command(pid) for pod in pods)]
        if not servers:
            return
        pod = _pod_of(processes.command(servers[int(plan.pick * len(servers))]))
        self._kill(FaultPlan("server", 0.0, plan.pick, 0.0), servers)
        end = time.monotonic() + RUNNER_S
        while not (runners := self._runners(pod)) and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(plan.length_s)
        self._kill(plan, [pid for pid in runners if _is_runner(pid)][:1])

    def _runners(self, pod: str) -> list[int]:
        """Runners of poststop hooks: forked from `delete`, in a session of their own."""
        members = {pod, *(life.container.id for life in self._maker.lives if life.pod == pod)}
        found = []
        for pid in self._node.below():
            words = processes.command(pid).split()
            with suppress(ProcessLookupError):
                if members & set(words) and _is_runner(pid):
                    found.append(pid)
        return found

    def _init(self, plan: FaultPlan) -> None:
        lives = self._maker.running()
        if not lives:
            return
        life = lives[int(plan.pick * len(lives))]
        try:
            pid = life.container.pid()
        except (CallFailed, ValueError, KeyError):
            return
        if pid:
            with self._held(pid, plan.kind, cgroup=life.container.id) as (fd, strike):
                strike.words = life.container.id
                self._strikes.add(strike)
                signal.pidfd_send_signal(fd, signal.SIGKILL)

    def _fill(self, plan: FaultPlan) -> None:
        if self._disk is None:
            return
        strike = Strike(plan.kind, time.monotonic(), 0.0)
        with self._disk.full():
            time.sleep(plan.length_s)
        # A write that failed then may show its effect a moment later.
        strike.ended = time.monotonic() + 1.0
        self._strikes.add(strike)

    @contextmanager
    def _held(self, pid: int, kind: str, *, cgroup: str = "") -> Iterator[tuple[int, Strike]]:
        """A pidfd of process `pid`, and the fault that is about to hit it.

        Raises ProcessLookupError if it is gone, or its PID belongs to a process that is not the node's, or that is not
        in a cgroup whose name contains `cgroup`.
        """
        fd = os.pidfd_open(pid)
        try:
            words = processes.command(pid)
            where = _read(f"/proc/{pid}/cgroup")
            if pid not in processes.descendants(self._node.pid) or cgroup not in where:
                raise ProcessLookupError(pid)
            now = time.monotonic()
            yield fd, Strike(kind, now, now, pid, _pod_of(words), words)
        finally:
            os.close(fd)

    def _spawners(self, *, prefork: bool) -> list[int]:
        return [pid for pid in self._node.spawners() if processes.command(pid).endswith("prefork") == prefork]

    def _is_oci(self, pid: int) -> bool:
        return f"{self._node.oci.name} --root " in processes.command(pid)

    def _soon(self, wanted: Callable[[int], bool], plan: FaultPlan) -> list[int]:
        """The node's processes that `wanted` accepts, as soon as there are any."""
        end = time.monotonic() + SOON_S
        while time.monotonic() < end:
            if found := [pid for pid in self._node.below() if wanted(pid)]:
                return found
            time.sleep(0.001 + 0.004 * plan.pick)
        return []


def _is_command(pid: int) -> bool:
    line = processes.command(pid)
    return "containerd-shim-" in line and line.endswith((" start", " delete")) and not _is_runner(pid)


def _is_runner(pid: int) -> bool:
    """Whether the process was forked from `delete` and leads no session. `delete` is in containerd's or leads one."""
    try:
        return processes.command(pid).endswith(" delete") and os.getsid(pid) == os.getpgid(pid) != pid
    except ProcessLookupError:
        return False


def _read(path: str) -> str:
    """A file's text; "" if it is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _socket_of(words: str) -> str:
    """The server's socket for the container of a `delete`, after a space, because the socket's name is a hash."""
    parts = words.split()
    if parts[-1:] == ["delete"] and "-bundle" in parts:
        with suppress(OSError):
            return " " + Path(parts[parts.index("-bundle") + 1], "address").read_text().removeprefix("unix://")
    return ""


def _listening(pid: int) -> str:
    """The paths of the named sockets of process `pid`, each after a space."""
    found = ""
    with suppress(OSError):
        links = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
        for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
            words = line.split()
            if len(words) > 7 and f"socket:[{words[6]}]" in links:
                found += f" {words[7]}"
    return found


def _pod_of(words: str) -> str:
    """The id after -id on a shim's command line; for a server that is its pod's id."""
    parts = words.split()
    return parts[parts.index("-id") + 1] if "-id" in parts else ""


def mounted_namespaces(pid: int) -> list[str]:
    """The network namespaces that CNI has mounted for pods, as process `pid` sees them."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return [path for line in lines if (path := line.split()[4]).startswith("/run/netns/cni-")]


def run_in(node: Node, *argv: str) -> None:
    """Run a command in the node's mount namespace."""
    subprocess.run(["nsenter", f"--mount=/proc/{node.pid}/ns/mnt", *argv], check=True)
