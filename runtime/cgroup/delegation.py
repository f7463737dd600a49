"""Acting on a plan's `Delegation`: what happens to cgroups around the OCI runtime's calls where PID 1 is systemd."""

import os
from contextlib import suppress

from runtime.cgroup import files
from runtime.errors import RuntimeFailed
from runtime.init.cgroup import Delegation
from runtime.linux import mountinfo

# What an OCI runtime may set on a container's v2 cgroup (runtime-spec, config-linux.md) and systemd in it could change.
_LIMITS = (
    *("memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max", "memory.oom.group"),
    *("cpu.max", "cpu.max.burst", "cpu.weight", "cpu.idle", "pids.max", "io.max", "io.weight", "io.bfq.weight"),
    *("cpuset.cpus", "cpuset.mems", "rdma.max"),
)
_HUGETLB = "hugetlb."


def prepare(plan: Delegation) -> None:
    """Before the runtime's create: make the directory that a mount is bound from. Raises OSError."""
    if plan.directory:
        os.makedirs(plan.directory, exist_ok=True)


def apply(plan: Delegation, pid: int, *, proc: str = "/proc") -> None:
    """After create and after each update: put the limits where the container of host process `pid` cannot write.

    Raises OSError, and RuntimeFailed where the OCI runtime did not put the container into a v2 cgroup of its own: its
    cgroup namespace would begin at the host's root, and the container could write there.
    """
    own = _unified(pid, proc)
    if not own:
        if plan.directory:
            return  # the layout of a v1 host, where v2 is not shown to the container
        raise RuntimeFailed(
            "the OCI runtime left the container in the root of the cgroup v2 tree, which PID 1 would own"
        )
    top = own
    if plan.parent:
        top = os.path.dirname(own)
        for name in _names(own):
            with suppress(FileNotFoundError):
                _copy(f"{own}/{name}", f"{top}/{name}")
    _write(f"{top}/cgroup.max.descendants", str(plan.descendants))
    _write(f"{top}/cgroup.max.depth", str(plan.depth))


def remove(plan: Delegation) -> None:
    """After delete: remove the cgroup that was put above the container's, in every hierarchy."""
    if not plan.parent:
        return
    for entry in mountinfo.read():
        if entry.fstype in ("cgroup", "cgroup2") and entry.root == "/":
            with suppress(OSError):  # not there, or another container of the name is in it
                os.rmdir(entry.mount_point + plan.parent)


def _unified(pid: int, proc: str) -> str:
    """The container's own v2 directory, "" on a host without one."""
    paths = (files.read(f"{proc}/{pid}", "cgroup") or b"").decode(errors="surrogateescape").splitlines()
    path = next((line.removeprefix("0::") for line in paths if line.startswith("0::")), "")
    mounts = mountinfo.read(f"{proc}/self/mountinfo")
    mount = next((one.mount_point for one in mounts if one.fstype == "cgroup2" and one.root == "/"), "")
    # A process in the root of the hierarchy has none of its own.
    return mount + path if mount and path not in ("", "/") else ""


def _names(directory: str) -> tuple[str, ...]:
    huge = (name for name in os.listdir(directory) if name.startswith(_HUGETLB) and name.endswith(".max"))
    return (*_LIMITS, *huge)


def _copy(source: str, target: str) -> None:
    with open(source) as file:
        value = file.read().strip()
    for line in value.splitlines():  # io.max and rdma.max take one device at a time
        _write(target, line)


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
