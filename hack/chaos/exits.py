"""Reproduces public reports of lost exits, as far as that is possible from outside: makes exits, and counts reports.

consumer   containerd#13653: a pod of 200 containers ends at once while containerd, which receives the shim's events, is
           stopped for some seconds.
kill-all   containerd#13814: the containers of a pod share its PID namespace, so that the shim kills what is left of
           each when it ends; they end at once, while many execs end too.
oom        containerd#13849: the OOM killer kills PID 1, which has zombies below it.
churn      containerd#12344: 200 short pods a minute.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration.node import Node
from tests.integration.pods import EXITED, SHARED_PID_NAMESPACE, Container, Pod, Pods

PATIENCE_S = 60.0
LEFT_S = 90.0
"""How long shims may take to end."""

WORKERS = 8
FOREVER = ("sleep", "1000000")
ZOMBIES = "for i in 1 2 3 4 5 6 7 8 9 10; do sh -c 'sleep 0.0$0' $i & done; exec tail /dev/zero"
LIMIT = 24 << 20


@dataclass
class Count:
    """The result of a recipe: `lost` exits were not reported within a minute, `wrong` ones with another code."""

    exits: int = 0
    lost: int = 0
    wrong: int = 0
    failed_calls: int = 0
    shims_left: int = 0
    pods_left: int = 0
    seconds: float = 0.0
    details: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class Counter:
    """Counts the exits on a node with one handler. Thread-safe."""

    def __init__(self, node: Node, handler: str) -> None:
        self.node = node
        self.pods = Pods(node, handler)
        self.count = Count()
        self._lock = threading.Lock()

    def failed(self, error: Exception) -> None:
        with self._lock:
            self.count.failed_calls += 1
            if len(self.count.details) < 20:
                self.count.details.append(str(error)[:300])

    def told(self, code: int | None, right: Sequence[int], what: str) -> None:
        """Count one exit; `code` None: it was not reported."""
        with self._lock:
            self.count.exits += 1
            self.count.lost += code is None
            self.count.wrong += code is not None and code not in right
            if code not in right and len(self.count.details) < 20:
                self.count.details.append(f"{what}: {code}")

    def take(self, containers: Iterable[Container], right: Sequence[int], *, patience_s: float = PATIENCE_S) -> None:
        """Wait for the exits of all `containers`, and count them."""
        waiting, until = list(containers), time.monotonic() + patience_s
        while waiting:
            for container in list(waiting):
                with suppress(CallFailed):
                    status = container.status()
                    if status.state == EXITED:
                        self.told(status.exit_code, right, container.id[:12])
                        waiting.remove(container)
            if time.monotonic() > until:
                break
            time.sleep(0.05)
        for container in waiting:
            self.told(None, right, container.id[:12])

    def finish(self, began: float) -> Count:
        """Remove everything, and count the shims and pods that are left."""
        until = time.monotonic() + LEFT_S
        while (left := self.pods.remove_all()) and time.monotonic() < until:
            time.sleep(1.0)
        while (shims := self.node.shims()) and time.monotonic() < until:
            time.sleep(0.2)
        self.count.pods_left, self.count.shims_left = len(left), len(shims)
        self.count.seconds = time.monotonic() - began
        self.pods.client.close()
        return self.count


def _containers(counter: Counter, pod: Pod, count: int, *command: str) -> list[Container]:
    def run(number: int) -> Container | None:
        try:
            return pod.run(*command, name=f"c{number}")
        except CallFailed as error:
            counter.failed(error)
            return None

    with ThreadPoolExecutor(WORKERS) as pool:
        return [one for one in pool.map(run, range(count)) if one is not None]


def _init(container: Container) -> int:
    """A pidfd of the container's running init. Raises ProcessLookupError."""
    pid = container.pid()
    pidfd = os.pidfd_open(pid)
    if container.id not in Path(f"/proc/{pid}/cgroup").read_text():
        os.close(pidfd)
        raise ProcessLookupError(f"{pid} is no process of {container.id}")
    return pidfd


def _close(pidfds: Sequence[int]) -> None:
    for pidfd in pidfds:
        os.close(pidfd)


def consumer(counter: Counter, exits: int, *, at_once: int = 200, asleep_s: float = 10.0) -> None:
    """containerd#13653."""
    while counter.count.exits < exits:
        pod = counter.pods.run()
        containers = _containers(counter, pod, at_once, *FOREVER)
        inits = [_init(container) for container in containers]
        os.kill(counter.node.containerd_pid, signal.SIGSTOP)
        try:
            for pidfd in inits:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            time.sleep(asleep_s)
        finally:
            os.kill(counter.node.containerd_pid, signal.SIGCONT)
            _close(inits)
        counter.take(containers, (137,))
        with suppress(CallFailed):
            pod.remove()


def kill_all(counter: Counter, exits: int, *, at_once: int = 20, execs: int = 60) -> None:
    """containerd#13814."""
    while counter.count.exits < exits:
        pod = counter.pods.run(namespaces=SHARED_PID_NAMESPACE)
        script = "sleep 1000000 & sleep 1000000 & sleep 1000000 & sleep 1000000; true"
        containers = _containers(counter, pod, at_once, "sh", "-c", script)
        stays = pod.run(*FOREVER, name="stays")
        inits = [_init(container) for container in containers]

        def execute(_: int, stays: Container = stays) -> int | None:
            try:
                return int(stays.exec("sh", "-c", "sleep 0.3; exit 5", timeout_s=30).exit_code)
            except CallFailed as error:
                counter.failed(error)
                return None

        with ThreadPoolExecutor(execs) as pool:
            codes = pool.map(execute, range(execs))
            time.sleep(0.6)
            for pidfd in inits:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            for code in codes:
                counter.told(code, (5,), "exec")
        _close(inits)
        counter.take(containers, (137,))
        with suppress(CallFailed):
            stays.stop(0)
        counter.take([stays], (137,))
        with suppress(CallFailed):
            pod.remove()


def oom(counter: Counter, exits: int, *, at_once: int = 10) -> None:
    """containerd#13849."""
    limits = pb.LinuxContainerResources(memory_limit_in_bytes=LIMIT)
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(resources=limits))
    while counter.count.exits < exits:
        pod = counter.pods.run()

        def run(number: int, pod: Pod = pod) -> Container | None:
            try:
                return pod.run("sh", "-c", ZOMBIES, name=f"c{number}", config=config)
            except CallFailed as error:
                counter.failed(error)
                return None

        with ThreadPoolExecutor(WORKERS) as pool:
            containers = [one for one in pool.map(run, range(at_once)) if one is not None]
        counter.take(containers, (137,))
        with suppress(CallFailed):
            pod.remove()


def churn(counter: Counter, exits: int, *, a_minute: int = 200) -> None:
    """containerd#12344."""
    began = time.monotonic()

    def live(number: int) -> None:
        time.sleep(max(0.0, began + number * 60.0 / a_minute - time.monotonic()))
        try:
            pod = counter.pods.run()
            container = pod.run("sh", "-c", "exit 6")
        except CallFailed as error:
            counter.failed(error)
            return
        counter.take([container], (6,))
        with suppress(CallFailed):
            pod.remove()

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(live, range(exits)))


RECIPES: dict[str, Callable[[Counter, int], None]] = {
    "consumer": consumer,
    "kill-all": kill_all,
    "oom": oom,
    "churn": churn,
}
SHARES = {"consumer": 0.4, "kill-all": 0.3, "oom": 0.1, "churn": 0.2}
"""Each recipe's share of a run's exits."""


def run(node: Node, handler: str, recipe: str, exits: int) -> Count:
    """Run one recipe until it has made `exits` exits."""
    counter, began = Counter(node, handler), time.monotonic()
    RECIPES[recipe](counter, exits)
    return counter.finish(began)
