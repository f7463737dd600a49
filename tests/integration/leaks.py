"""What a test may not leave behind on its node.

The spawner is no trace: one per node, it outlives the pods it made by its idle time-out. Nor is its warm-up: what one
that was killed in the middle has left, the next one removes.
"""

import os
import time
from pathlib import Path

from tests.integration import cgroups, processes
from tests.integration.node import Node

SETTLE_S = 8.0
WARMUP = ".warmup"


def found(node: Node, baseline: frozenset[str]) -> list[str]:
    """Everything on the node now that is not in baseline: one line each, its kind first."""
    known = {_identity(line) for line in baseline}
    return sorted(line for line in everything(node) if _identity(line) not in known)


def _identity(line: str) -> str:
    """A mount is its id: the path of one inherited from the host changes when the host renames a directory."""
    return line.partition(" at ")[0]


def everything(node: Node) -> frozenset[str]:
    """All the traces a container can leave, as they are now."""
    finders = (_processes, _mounts, _cgroups, _sockets, _bundles, _runtime_states, _run_directories, _records)
    return frozenset(line for finder in finders for line in finder(node))


def settled(node: Node, baseline: frozenset[str], *, timeout_s: float = SETTLE_S) -> list[str]:
    """What is still left after containerd had timeout_s to finish its own clean-up."""
    end = time.monotonic() + timeout_s
    while left := found(node, baseline):
        if time.monotonic() > end:
            return left
        time.sleep(0.05)
    return []


def _processes(node: Node) -> list[str]:
    return [f"process {pid} {processes.state(pid)} {line}" for pid in node.below() if (line := processes.command(pid))]


def _mounts(node: Node) -> list[str]:
    lines = [line.split() for line in Path(f"/proc/{node.pid}/mountinfo").read_text().splitlines()]
    return [f"mount {fields[0]} at {fields[4]}" for fields in lines if f"/{WARMUP}/" not in fields[4]]


def _cgroups(node: Node) -> list[str]:
    return [f"cgroup {path}" for path in (*cgroups.below(node.cgroup), *cgroups.unmounted_of(node.cgroup))]


def _sockets(node: Node) -> list[str]:
    """Sockets under /run, which is the test run's own; containerd's are in the node's directory."""
    paths = [Path(directory, name) for directory, _, names in os.walk("/run") for name in names]
    return [f"socket {path}" for path in paths if path.is_socket() and "/spawner-" not in str(path)]


def _bundles(node: Node) -> list[str]:
    """Bundles, in the state directory, and their work directories, in the root directory."""
    patterns = ("state/io.containerd.runtime.v2.task/*/*", "root/io.containerd.runtime.v2.task/*/*")
    return [f"bundle {path}" for pattern in patterns for path in node.base.glob(pattern)]


def _runtime_states(node: Node) -> list[str]:
    """The OCI runtime's directories: ROOT/NAMESPACE/ID. In .cache crun keeps seccomp filters for the next container."""
    roots = (Path("/run/containerd/runc"), Path("/run/pouchrich/runtime"))
    return [f"runtime state {path}" for root in roots for path in root.glob("*/*") if path.name != ".cache"]


def _run_directories(node: Node) -> list[str]:
    """What rich containers have under /run/pouchrich, and what is held there for their poststop hooks."""
    patterns = ("containers/*/*", "poststop/*/*", "bundles/*/*", "pods/*/*")
    paths = [path for pattern in patterns for path in Path("/run/pouchrich").glob(pattern)]
    return [f"run directory {path}" for path in paths if path.parent.name != WARMUP]


def _records(node: Node) -> list[str]:
    return [f"record {path}" for path in node.records()]
