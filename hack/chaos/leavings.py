"""What is left on a node after a round, and which of that is the result of a fault that no shim can repair."""

import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hack.chaos.faults import mounted_namespaces, run_in
from hack.chaos.life import Strikes
from tests.integration.node import Node

ID_LENGTH = 64
"""The length of the CRI's ids, and of the sockets' names."""

GIVEN_UP = "failed to clean up after shim disconnected"
"""containerd's message when it has killed a `delete`, or could not start one."""

SANDBOXES = "io.containerd.grpc.v1.cri/sandboxes"


def once(left: Sequence[str], cgroup: str) -> list[str]:
    """`left` without duplicates: a v1 cgroup is a directory in each of a dozen hierarchies."""
    found: dict[str, str] = {}
    for line in left:
        below = line.partition(f"{cgroup}/")[2] if line.startswith("cgroup ") else ""
        found.setdefault(below or line, line)
    return list(found.values())


def excused(left: Sequence[str], strikes: Strikes, log: str) -> dict[str, str]:
    """The items in `left` that a fault explains -> whose fault it is. `log` is containerd's."""
    killed = bool(strikes.counted()["containerd"])
    unable = [line for line in log.splitlines() if GIVEN_UP in line]
    deletes = " ".join(strike.words for strike in strikes.all() if strike.kind == "command")
    deletes += " ".join(line for line in unable if "fork/exec" in line)  # it is started in the bundle, which was gone
    late = " ".join(unable)
    given_up = " ".join(strike.words for strike in strikes.all() if strike.given_up)
    found: dict[str, str] = {}
    for line in left:
        if killed and _is_containerds(line):
            found[line] = "a killed containerd"
        elif _is_of(line, deletes) or (line.startswith("bundle ") and _is_of(line, late)):
            found[line] = "a killed delete"
        elif _is_of(line, given_up):
            found[line] = "a killed server that containerd had given up"
    return found


def _is_containerds(line: str) -> bool:
    """Whether a containerd that is killed at work leaves such an item, independently of any shim.

    That is a network namespace that it has made and not noted; a sandbox's /dev/shm; or a bundle that it has renamed
    before removing it (bundle.go, atomicDelete), after the shim's `delete`.
    """
    if line.startswith("bundle "):
        return line.rpartition("/")[2].startswith(".")
    return line.startswith("mount ") and (" /run/netns/cni-" in line or SANDBOXES in line)


def _is_of(line: str, deletes: str) -> bool:
    """Whether an item belongs to a container whose `delete` was killed; `deletes` has their command lines and sockets.

    containerd does not run `delete` again, and keeps the bundle's directory until it is restarted.
    """
    kind, _, name = line.partition(" ")
    if kind == "process":
        with suppress(OSError):
            name = Path(f"/proc/{name.split()[0]}/cgroup").read_text()
    return any(word in deletes for word in re.split(r"[/\s]", name) if len(word) == ID_LENGTH)


def forget_what_containerd_leaves(node: Node) -> None:
    """Remove what a killed containerd has left and its successor never looks at."""
    for path in mounted_namespaces(node.pid):
        run_in(node, "umount", path)
    for line in Path(f"/proc/{node.pid}/mountinfo").read_text().splitlines():
        if SANDBOXES in (path := line.split()[4]):
            run_in(node, "umount", path)
    for bundle in node.base.glob("state/io.containerd.runtime.v2.task/*/.*"):
        shutil.rmtree(bundle)
