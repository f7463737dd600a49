"""A memory limit of its own for a supervised agent. cgroup v2 only.

The agent's cgroup is a sibling of the container's, below the pod's: a cgroup with processes may not hand controllers
to children (cgroup-v2.rst, "No Internal Process Constraint"), and a container that may write to its cgroup could change
a limit below it. So an agent with a limit counts against the pod's limit and its own; an agent without one stays in the
container's cgroup.
"""

import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress

from runtime import bundle as bundles
from runtime.cgroup import files
from runtime.errors import FailedPrecondition

MOUNT = "/sys/fs/cgroup"
_WHOLE_ID = re.compile("[a-z0-9]{64}")
NOTE = "agent-cgroups.json"
"""The file in a bundle with the directories that `delete` removes if no pod server has done so."""


def has_v2_memory(mount: str = MOUNT) -> bool:
    """Whether the memory controller of this node is on the unified hierarchy, which must then be mounted at `mount`."""
    try:
        with open(f"{mount}/cgroup.controllers") as file:
            return "memory" in file.read().split()
    except OSError:
        return False


def path_of(container: str, name: str) -> str:
    """The directory of agent `name` beside the container's cgroup directory `container`.

    It has only the beginning of the container's ID: cAdvisor, in the kubelet, takes every cgroup with a whole ID in its
    name for that container (container/containerd/factory.go).
    """
    parent, base = os.path.split(container.rstrip("/"))
    return f"{parent}/{_WHOLE_ID.sub(lambda found: found[0][:12], base)}-agent-{name}"


def make(path: str, memory_bytes: int) -> None:
    """Make the cgroup with its limit. Raises FailedPrecondition where the parent has no memory controller to give."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o755)
    try:
        files.write(f"{path}/memory.max", str(memory_bytes))
        files.write(f"{path}/memory.oom.group", "1")
    except OSError as err:
        remove(path)
        raise FailedPrecondition(f"{path}: no memory limit can be set: {os.strerror(err.errno or 0).lower()}") from err


def enter(path: str, pid: int) -> None:
    """Move a process that was just started into the cgroup. A process that has ended is no error. Raises OSError.

    Pages that the process touched before stay charged to the container. Processes that it forked before have to be
    moved by one call each.
    """
    with suppress(ProcessLookupError):
        files.write(f"{path}/cgroup.procs", str(pid))


def remove(path: str) -> None:
    """Kill what is left in the cgroup (Linux 5.14) and remove it. One that is missing or still busy is no error."""
    with suppress(OSError):
        files.write(f"{path}/cgroup.kill", "1")
    with suppress(OSError):
        os.rmdir(path)


def note(bundle: str, directories: Sequence[str]) -> None:
    """Record in `bundle` that these directories may be made. Raises OSError."""
    bundles.write_json(f"{bundle}/{NOTE}", {"version": 1, "directories": list(directories)})


def noted(bundle: str) -> list[str]:
    """The directories that `note` recorded in `bundle`; none where there is no such note, or it cannot be read."""
    try:
        with open(f"{bundle}/{NOTE}", "rb") as file:
            return list(json.loads(file.read())["directories"])
    except (OSError, ValueError, KeyError):
        return []


def remove_all(directories: Sequence[str], *, patience_s: float) -> bool:
    """Remove each directory, waiting up to `patience_s` seconds for killed processes. Whether all are gone."""
    until = time.monotonic() + patience_s
    for path in directories:
        remove(path)
        while os.path.isdir(path) and time.monotonic() < until:
            time.sleep(0.01)
            remove(path)
    return not any(map(os.path.isdir, directories))


def remove_noted(bundle: str) -> None:
    """Remove the directories that `note` recorded, if any, and the note. Raises OSError for the note."""
    if directories := noted(bundle):
        remove_all(directories, patience_s=0.0)
        bundles.unlink_if_exists(f"{bundle}/{NOTE}")
