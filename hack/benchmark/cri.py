"""What a node's pods cost through containerd's CRI: time, memory and CPU time, by runtime handler.

Times and CPU times are seconds, memory is bytes. The node is that of the integration tests: a private containerd in its
own namespaces, of which nothing is left.
"""

import argparse
import os
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from benchmark import bursts, killed, spent, started, tracing
from benchmark.bursts import SLEEP
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import binaries, cgroups, configuration, images, isolation
from tests.integration.node import Node, running
from tests.integration.pods import Container, Pod, Pods

Samples = dict[str, dict[str, list[float]]]
"""A handler's name in the report -> row -> samples."""

HANDLERS = {"ours-rich": "pouchrich-rich", "ours-plain": "pouchrich", "go-shim": "runc.v2"}
T = TypeVar("T")
POLL_S, PROBE_S, SETTLE_S = 1.0, 10.0, 3.0
CONTAINERD = "containerd"


def run(given: argparse.Namespace) -> Samples:
    """Measure the rows that `given` names."""
    isolation.enter()
    found: Samples = defaultdict(lambda: defaultdict(list))
    tars = images.write_all(Path("/run/pouchrich-tests/images"))
    version = binaries.named(given.containerd)
    with running(version, given.oci, tars, log_level="info") as node, _accounted(node) as account:
        bench = _Bench(node, account, found, given.handler)
        rows: dict[str, Callable[[], None]] = {
            "pod": lambda: bench.lives(given.rounds),
            "exec": lambda: bench.execs(given.rounds),
            "start": lambda: bench.starts(given.rounds),
            "spent": lambda: bench.spent(given.rounds),
            "burst": lambda: bench.bursts(given.bursts, max(2, given.rounds // 10)),
            "cold": lambda: bench.cold(given.cold, max(2, given.rounds // 10)),
            "restarted": lambda: bench.restarted(given.cold, max(2, given.rounds // 10)),
            "polled": lambda: bench.polled(given.pods, given.minutes * 60),
            "killed": lambda: bench.killed(given.rounds),
        }
        for row, measure in rows.items():
            if row in given.row:
                measure()
    return {name: dict(rows) for name, rows in found.items()}


@contextmanager
def _accounted(node: Node) -> Iterator[Path]:
    """Put containerd, and with it the shims that it starts, into a cgroup that counts their CPU time.

    Containers have cgroups of their own, so only the cost beside them is counted.
    """
    name = f"{node.cgroup}-daemon"
    cgroups.make(name)
    account = cgroups.mount_of("cpuacct") / name.lstrip("/")
    (account / "cgroup.procs").write_text(str(node.containerd_pid))
    try:
        yield account
    finally:
        for pid in (account / "cgroup.procs").read_text().split():
            (account.parent / "cgroup.procs").write_text(pid)
        cgroups.remove(name)


class _Bench:
    """One run on one node."""

    def __init__(self, node: Node, account: Path, found: Samples, handlers: list[str]) -> None:
        self._node = node
        self._account = account
        self._found = found
        self._pods = {name: Pods(node, handler) for name, handler in HANDLERS.items() if name in handlers}

    def _cpu_s(self) -> float:
        return int((self._account / "cpuacct.usage").read_text()) / 1e9

    # One pod after the other

    def lives(self, rounds: int) -> None:
        """The life of a pod of 1 container and of one of 3."""
        for turn in range(-1, rounds):  # one more to warm up page cache and spawner
            for name, pods in self._pods.items():
                for count in (1, 3):
                    took = self._life(pods, count)
                    if turn >= 0:
                        for row, seconds in took.items():
                            self._found[name][row].append(seconds)

    def _life(self, pods: Pods, count: int) -> dict[str, float]:
        before = self._cpu_s()
        times: dict[str, float] = {}
        pod = _timed(times, f"RunPodSandbox ({count})", lambda: pods.run())
        containers: list[Container] = []
        for number in range(count):
            one = _timed(times, f"CreateContainer ({count})", lambda name=f"c{number}": pod.create(*SLEEP, name=name))
            _timed(times, f"StartContainer ({count})", one.start)
            containers.append(one)
        times[f"pod of {count} up"] = sum(times.values())
        down: dict[str, float] = {}
        for one in containers:
            _timed(down, f"StopContainer ({count})", lambda one=one: one.stop(0))
        _timed(down, f"StopPodSandbox ({count})", pod.stop)
        _timed(down, f"RemovePodSandbox ({count})", lambda: _remove(pod))
        times |= {**down, f"pod of {count} down": sum(down.values())}
        self._until_no_shim(pod)
        times[f"CPU of a pod of {count}"] = self._cpu_s() - before
        return times

    def _until_no_shim(self, pod: Pod) -> None:
        """Wait until the pod's shim is gone, so that its last work is counted for this pod, not for the next one."""
        end = time.monotonic() + bursts.GONE_S
        while self._node.shims(containing=pod.id) and time.monotonic() < end:
            time.sleep(0.01)

    def execs(self, rounds: int) -> None:
        """ExecSync of `true`."""
        containers = {name: pods.run().run(*SLEEP) for name, pods in self._pods.items()}
        for turn in range(-2, rounds):
            for name, container in containers.items():
                before, took = self._cpu_s(), dict[str, float]()
                _timed(took, "ExecSync", lambda one=container: one.exec("true"))
                if turn >= 0:
                    self._found[name]["ExecSync"] += took.values()
                    self._found[name]["CPU of an ExecSync"].append(self._cpu_s() - before)
        self._remove_all()

    def starts(self, rounds: int) -> None:
        """The parts of the StartContainer of a pod's further container."""
        pods = {name: pods.run() for name, pods in self._pods.items()}
        for pod in pods.values():
            pod.run(*SLEEP, name="first")
        with tracing.watching(self._known(), self._node.base / "trace", tracing.LIVES) as seen:
            for turn in range(-2, rounds):
                for name, pod in pods.items():
                    container = pod.create(*SLEEP, name=f"c{turn}")
                    seen()
                    began = time.monotonic()
                    container.start()
                    ended = time.monotonic()
                    found = started.parts(seen(), began, ended, start=binaries.SHIM)
                    found["StartContainer"] = ended - began
                    began = time.monotonic()
                    container.exec("true")
                    ended = time.monotonic()
                    found |= started.exec_parts(seen(), began, ended, command="true")
                    found["ExecSync"] = ended - began
                    if turn >= 0:
                        for row, seconds in found.items():
                            self._found[name][row].append(seconds)
                    container.stop(0)
        self._remove_all()

    def spent(self, rounds: int) -> None:
        """Which programs use the CPU time of a pod of one container: start, an ExecSync of `true`, and removal."""
        for pods in self._pods.values():
            self._life(pods, 1)
        time.sleep(SETTLE_S)  # until a spawner has warmed up and taken the place of the first one
        known = self._known()
        account = spent.Account(
            {thread: whose for pid, whose in known.items() for thread in tracing.threads(pid)},
            shims=(binaries.SHIM, "containerd-shim-runc-v2", *spent.PYTHONS),
            plugins=os.listdir(configuration.cni_bin()),
            runtimes=("crun", "runc", "exe"),
        )
        with tracing.watching(known, self._node.base / "trace", (*tracing.LIVES, tracing.TIMES)) as seen:
            for _ in range(rounds):
                for name, pods in self._pods.items():
                    account.add(seen())
                    pod = pods.run()
                    container = pod.run(*SLEEP)
                    self._note(name, "up", account.add(seen()))
                    container.exec("true")
                    self._note(name, "exec", account.add(seen()))
                    container.stop(0)
                    pod.stop()
                    _remove(pod)
                    self._until_no_shim(pod)
                    self._note(name, "down", account.add(seen()))

    def _note(self, name: str, phase: str, took: dict[str, float]) -> None:
        for whose in (CONTAINERD, *spent.OTHERS):
            self._found[name][f"CPU of a pod's {phase}: {whose}"].append(took.get(whose, 0.0))
        self._found[name][f"CPU of a pod's {phase}"].append(sum(took.values()))

    def _known(self) -> dict[int, str]:
        """The existing processes: PID -> owner."""
        shims = dict.fromkeys((*self._node.spawners(), *self._node.shims()), spent.SHIM)
        return {self._node.containerd_pid: CONTAINERD, **shims}

    # Many at once

    def bursts(self, counts: list[int], rounds: int) -> None:
        """N pods at once, with a running spawner."""
        for pods in self._pods.values():
            pods.run()
        self._remove_all()
        for count in counts:
            for _ in range(rounds):
                for name, pods in self._pods.items():
                    self._found[name][f"burst of {count}"].append(bursts.burst(pods, count))
                    self._remove_all()

    def cold(self, counts: list[int], rounds: int) -> None:
        """N pods at once without a spawner, and the memory that they use afterwards."""
        for count in counts:
            for _ in range(rounds):
                for name, pods in self._pods.items():
                    bursts.end_spawners(self._node)
                    self._found[name][f"cold burst of {count}"].append(bursts.burst(pods, count))
                    time.sleep(SETTLE_S)
                    self._found[name][f"PSS of {count} cold pods"].append(self._pss())
                    self._remove_all()

    def restarted(self, counts: list[int], rounds: int) -> None:
        """N pods at once as soon as a restarted containerd answers. The spawner ended with the former containerd."""
        for count in counts:
            for _ in range(rounds):
                for name, pods in self._pods.items():
                    self._node.kill_containerd(signal.SIGTERM)
                    bursts.await_no_spawner(self._node)
                    self._node.start()
                    for every in self._pods.values():
                        every.reconnect()
                    row = f"burst of {count}, containerd restarted"
                    self._found[name][row].append(bursts.burst(pods, count))
                    self._remove_all()

    def killed(self, rounds: int) -> None:
        """A pod's shim is killed."""
        for name, row, seconds in killed.samples(self._node, self._pods, self._cpu_s, rounds):
            self._found[name][row].append(seconds)

    # Constant requests

    def polled(self, count: int, seconds: float) -> None:
        """Stats of each container each second, an exec probe in half of the pods each ten."""
        for name, pods in self._pods.items():
            pods.run().run(*SLEEP)  # not measured: the spawner warms up, as for the row `memory` of hack/bench.py
            time.sleep(SETTLE_S)
            self._remove_all()
            containers = [pods.run().run(*SLEEP) for _ in range(count)]
            time.sleep(SETTLE_S)
            self._found[name][f"PSS per pod, idle, of {count}"].append(self._pss() / count)
            began, used, asked, polls = time.monotonic(), self._cpu_s(), 0, 0
            while (now := time.monotonic()) < began + seconds:
                pods.client.call(pb.ListContainerStatsRequest(), pb.ListContainerStatsResponse)
                polls += 1
                if now - began >= asked * PROBE_S:
                    asked += 1
                    for one in containers[::2]:
                        one.exec("true")
                if polls == 60:
                    self._found[name]["PSS per pod, polled, after 1 min"].append(self._pss() / count)
                time.sleep(max(0.0, POLL_S - (time.monotonic() - now)))
            self._found[name]["CPU s/h per polled pod"].append((self._cpu_s() - used) / seconds * 3600 / count)
            self._found[name][f"PSS per pod, polled, of {count}"].append(self._pss() / count)
            self._found[name]["private per pod, polled"].append(
                statistics.median(_rollup(pid, "Private_Clean", "Private_Dirty") for pid in self._node.shims())
            )
            self._remove_all()

    def _pss(self) -> int:
        """Proportional memory of all shims and spawners of the node."""
        return sum(_rollup(pid, "Pss") for pid in {*self._node.shims(), *self._node.spawners()})

    def _remove_all(self) -> None:
        if failed := next(iter(self._pods.values())).remove_all():
            raise RuntimeError("; ".join(failed))


def _timed(into: dict[str, float], row: str, call: Callable[[], T]) -> T:
    """Call `call`, and add the seconds it took to `row`."""
    began = time.perf_counter()
    result = call()
    into[row] = into.get(row, 0.0) + time.perf_counter() - began
    return result


def _remove(pod: Pod) -> None:
    pod.pods.client.call(pb.RemovePodSandboxRequest(pod_sandbox_id=pod.id), pb.RemovePodSandboxResponse)


def _rollup(pid: int, *names: str) -> int:
    """The sum of the lines `names` of smaps_rollup, in bytes; 0 for a process that is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.split(":")[0] in names)
    return 0
