"""Whatever is killed meanwhile: each container's poststop hook on the host runs once, and nothing is left of any.

Some pods come and go, each with its mode, while the spawner, shims, starters, OCI runtimes, inits and containerd are
killed, and shims stopped for a moment. What happens when is chance; the seed is in the output, DISORDER_SEED gives it
again and DISORDER_S the length of a run in seconds.
"""

import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes, rich_images
from tests.integration.images import BUSYBOX
from tests.integration.node import Node
from tests.integration.pods import Container, Pod
from tests.integration.rich_images import System
from tests.integration.rich_pods import HANDLER, RichPods, configure
from tests.integration.test_rich_hooks import hook
from tests.integration.waiting import until

CLIENTS = 4
SECONDS = float(os.environ.get("DISORDER_S", "40"))
SYSTEMS = {"systemd": System("systemd"), "sbin-init": System("busybox")}
IMAGES = {"plain": BUSYBOX, "dumb-init": BUSYBOX} | {mode: system.reference for mode, system in SYSTEMS.items()}
COMMANDS = (
    "trap 'exit 42' TERM; while :; do sleep 1000 & wait $!; done",
    "trap '' TERM; while :; do sleep 1000 & wait $!; done",
    "sleep 0.2; exit 7",
    "exit 0",
)
GONE_S = 90.0
"""What a pod server that containerd 1.6 has forgotten takes to go by itself, and some more."""


class Client(threading.Thread):
    """Makes pods until `end`, uses them, and removes most; the others stay for the end. `owed` are for their hooks."""

    def __init__(self, rich_pods: RichPods, shared: Path, seed: int, end: float) -> None:
        super().__init__(name=f"client {seed}")
        self.owed: list[str] = []
        self._pods = rich_pods.pods
        self._shared = shared
        self._chance = random.Random(seed)
        self._end = end
        self._numbers = iter(range(seed * 1000, seed * 1000 + 1000))

    def run(self) -> None:
        while time.monotonic() < self._end:
            # containerd is away, the shim was killed, or the container ended before it was asked for
            with suppress(CallFailed, AssertionError, ValueError, KeyError, ProcessLookupError):
                self._live(self._chance.choice(list(IMAGES)))

    def _live(self, mode: str) -> None:
        about = {"pouchrich.io/rich": "false"} if mode == "plain" else {"pouchrich.io/mode": mode}
        try:
            pod = self._pods.run(handler=HANDLER, annotations=about)
        except (CallFailed, ValueError):
            time.sleep(0.2)
            return
        try:
            for _ in range(self._chance.choice((1, 1, 2))):
                self._contain(pod, mode)
        finally:
            if self._chance.random() < 0.8:
                pod.remove()

    def _contain(self, pod: Pod, mode: str) -> None:
        name = f"c{next(self._numbers)}"
        mount = pb.Mount(container_path="/shared", host_path=str(self._shared))
        config = pb.ContainerConfig(image=pb.ImageSpec(image=IMAGES[mode]), mounts=[mount])
        container = pod.create("sh", "-c", self._chance.choice(COMMANDS), name=name, config=config)
        if self._chance.random() < 0.1:
            return
        container.start()
        if mode != "plain":
            self.owed.append(name)
        for _ in range(self._chance.randrange(4)):
            self._use(container)
        if self._chance.random() < 0.5:
            container.stop(self._chance.choice((0, 2, 30)))

    def _use(self, container: Container) -> None:
        what = self._chance.choice(("exec", "stats", "kill", "nothing"))
        if what == "exec":
            container.exec("sh", "-c", "echo x; exit 3", timeout_s=20)
        elif what == "stats":
            container.stats()
        elif what == "kill":
            if pid := container.pid():
                os.kill(pid, signal.SIGKILL)
        else:
            time.sleep(self._chance.random())


class Disorder:
    """Kills one thing after another; `done` counts them."""

    def __init__(self, rich_pods: RichPods, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._pods = rich_pods.pods
        self._node = rich_pods.node
        self._chance = random.Random(seed)

    def make(self, end: float) -> None:
        """Until `end`. Raises AssertionError where containerd does not come back."""
        kinds = (self._spawner, self._shim, self._pause, self._oci, self._starter, self._containerd)
        while time.monotonic() < end:
            time.sleep(self._chance.uniform(0.1, 1.0))
            kind = self._chance.choice(kinds)
            with suppress(ProcessLookupError):
                self.done[kind.__name__] += kind()

    def _kill(self, pids: list[int]) -> bool:
        if pids:
            os.kill(self._chance.choice(pids), signal.SIGKILL)
        return bool(pids)

    def _spawner(self) -> bool:
        return self._kill(self._node.spawners())

    def _shim(self) -> bool:
        return self._kill(self._node.shims())

    def _pause(self) -> bool:
        shims = self._node.shims()
        if shims:
            pid = self._chance.choice(shims)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(0.05, 0.5))
            os.kill(pid, signal.SIGCONT)
        return bool(shims)

    def _oci(self) -> bool:
        return self._kill(self._soon(f"{self._node.oci.name} --root "))

    def _starter(self) -> bool:
        return self._kill(self._soon(" start") or self._soon(" delete"))

    def _containerd(self) -> bool:
        self._node.kill_containerd()
        time.sleep(self._chance.uniform(0.0, 1.0))
        self._node.start()
        self._pods.reconnect()
        return True

    def _soon(self, words: str) -> list[int]:
        """Those of the node's processes whose command lines have `words`, as soon as there are any."""
        for _ in range(200):
            if found := [pid for pid in self._node.below() if words in f"{processes.command(pid)} "]:
                return found
            time.sleep(0.002)
        return []


def forget_what_containerd_leaves(node: Node) -> None:
    """Remove what a containerd never looks at again that was killed at its work.

    A network namespace that it has made and not noted; a bundle that it has renamed to remove it (bundle.go,
    atomicDelete), after our `delete`.
    """
    for line in Path(f"/proc/{node.pid}/mountinfo").read_text().splitlines():
        path = line.split()[4]
        if path.startswith("/run/netns/cni-"):
            node.spawn(["umount", path], node.base / "umount.log")
    for bundle in node.base.glob("state/io.containerd.runtime.v2.task/*/.*"):
        shutil.rmtree(bundle)


def ran(path: Path) -> Iterator[str]:
    """The containers whose hooks have written to `path`."""
    return iter(path.read_text().split() if path.exists() else ())


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.only(runtime="pouchrich")
def test_in_all_disorder_each_poststop_hook_runs_once_and_nothing_is_left(rich_pods: RichPods) -> None:
    seed = int(os.environ.get("DISORDER_SEED") or random.randrange(1 << 20))
    print(f"DISORDER_SEED={seed}")
    node = rich_pods.node
    shared = Path(node.base, f"shared-{time.monotonic_ns()}")
    shared.mkdir()
    for system in SYSTEMS.values():
        rich_images.import_system(node, system)
    hooks = hook("poststop", "host", f"echo $POUCHRICH_NAME >>{shared}/host")
    hooks += hook("poststop", "container", "echo $POUCHRICH_NAME >>/shared/container") + hook(
        "prestart", "container", "true"
    )
    configure(node, "", hooks + '[[agents]]\nname = "agent"\ncommand = ["/bin/sh", "-c", "exec sleep 1000"]\n')

    end = time.monotonic() + SECONDS
    clients = [Client(rich_pods, shared, seed + number, end) for number in range(CLIENTS)]
    disorder = Disorder(rich_pods, seed)
    for client in clients:
        client.start()
    try:
        disorder.make(end)
    finally:
        for client in clients:
            client.join()
    owed = {name for client in clients for name in client.owed}
    print(f"{len(owed)} containers; killed: {dict(disorder.done)}")
    failed: list[str] = []

    def are_removed() -> bool:
        failed[:] = rich_pods.pods.remove_all()
        return not failed

    try:
        until(are_removed, "all pods to be removed", timeout_s=30)
    finally:
        print(*failed, sep="\n")
    until(lambda: not list(node.records()), "all that is owed to be paid", timeout_s=30)
    counted = Counter(ran(shared / "host"))
    assert [name for name, times in counted.items() if times > 1] == []
    assert owed - counted.keys() == set()
    # One whose own OCI runtime was killed has not run; none has run twice.
    assert [name for name, times in Counter(ran(shared / "container")).items() if times > 1] == []
    until(lambda: not node.shims(), "forgotten pod servers to go", timeout_s=GONE_S)
    forget_what_containerd_leaves(node)
