"""Carries out a plan's `Delegation`: what happens to a container's cgroups around the OCI runtime's calls."""

import os
import time
from contextlib import suppress

from runtime.cgroup import files, tree, unmounted
from runtime.errors import RuntimeFailed
from runtime.init.cgroup import Delegation
from runtime.linux import mountinfo

# What an OCI runtime may set on a container's v2 cgroup (runtime-spec, config-linux.md) and a systemd in it could
# change. cpu.idle comes before the weights, which cannot be written while it is 1 (cgroup-v2.rst).
_LIMITS = (
    *("memory.max", "memory.high", "memory.low", "memory.min", "memory.swap.max", "memory.oom.group"),
    *("cpu.idle", "cpu.max", "cpu.max.burst", "cpu.weight", "pids.max", "io.max", "io.weight", "io.bfq.weight"),
    *("cpuset.cpus", "cpuset.mems", "rdma.max"),
)
_HUGETLB = "hugetlb."
# A cgroup that the container has made may have the name of a limit that the container's own cgroup lacks.
_NO_FILE = (FileNotFoundError, IsADirectoryError)
_LEFT = ".pouchrich-left"


def prepare(plan: Delegation) -> int | None:
    """Before the OCI runtime's create: make the cgroups that must exist. Raises OSError.

    Return cgroup.procs, open for writing, of the cgroup in which to run the OCI runtime, or None. The caller owns it.
    """
    if plan.directory:
        os.makedirs(plan.directory, exist_ok=True)
    if not plan.unmounted:
        return None
    unmounted.make(plan.unmounted, descendants=plan.descendants, depth=plan.depth)
    return unmounted.open_procs(plan.unmounted)


def find(plan: Delegation, pid: int, *, proc: str = "/proc") -> str:
    """The container's own v2 directory, "" where the plan is for a v1 host.

    Call this after create and before start, while host process `pid` is where the OCI runtime has put it; a running
    PID 1 may move. Raises RuntimeFailed where the container has no cgroup of its own: its cgroup namespace would begin
    at the host's root, and the container could write there.
    """
    if plan.unmounted:
        unmounted.check(plan.unmounted, pid, proc=proc)
        return ""
    own = _unified(pid, proc)
    if not own and not plan.directory:
        raise RuntimeFailed(
            "the OCI runtime left the container in the root cgroup of the v2 tree, which PID 1 would then control"
        )
    return own


def apply(plan: Delegation, own: str, *, owner: tuple[int, int] = (0, 0)) -> None:
    """After create and in each update: put the limits where the container cannot write. `own` is the result of `find`.

    `owner` has the host's uid and gid of who may make cgroups below the container's own, and do nothing else. Raises
    OSError.
    """
    for directory in (own, plan.directory) if owner != (0, 0) else ():
        _give(directory, owner)
    if plan.unmounted and owner != (0, 0):
        unmounted.give(plan.unmounted, owner, _delegated())
    if not own:
        return  # a v1 host's layout: the container does not see v2
    top = own
    if plan.parent:
        top = os.path.dirname(own)
        for name in _names(own):
            with suppress(*_NO_FILE):
                _copy(f"{own}/{name}", f"{top}/{name}")
    files.write(f"{top}/cgroup.max.descendants", str(plan.descendants))
    files.write(f"{top}/cgroup.max.depth", str(plan.depth))


def move_to_leaf(plan: Delegation, own: str, pid: int, *, owner: tuple[int, int] = (0, 0)) -> None:
    """After `apply`, before start: move host process `pid` to the leaf, if any, and enable controllers in `own`.

    The controllers are enabled now because the kernel allows no process in a cgroup that has some enabled for its
    children: later execs then also go to where PID 1 is. `owner` is as for `apply`. Raises OSError.
    """
    if not plan.leaf or not own:
        return
    leaf = f"{own}/{plan.leaf}"
    with suppress(FileExistsError):
        os.mkdir(leaf, 0o755)
    files.write(f"{leaf}/cgroup.procs", str(pid))
    for name in (files.read(own, "cgroup.controllers") or b"").decode().split():
        with suppress(OSError):  # a controller that is not available does not keep the others from being enabled
            files.write(f"{own}/cgroup.subtree_control", f"+{name}")
    if owner != (0, 0):
        _give(leaf, owner)


def freeze(plan: Delegation, own: str) -> bool:
    """Before an update: begin to freeze the container, which could write to its own limits meanwhile. Raises OSError.

    Return whether that is needed: there are limits that the container can write and that `apply` will copy. Then call
    `restore` once `is_frozen`, and `thaw` in any case.
    """
    if not own or not plan.parent or not any(os.path.isfile(f"{own}/{name}") for name in _names(own)):
        return False
    files.write(f"{os.path.dirname(own)}/cgroup.freeze", "1")
    return True


def is_frozen(own: str) -> bool:
    """Whether all processes of the container have stopped."""
    return b"frozen 1" in (files.read(os.path.dirname(own), "cgroup.events") or b"")


def restore(own: str) -> None:
    """Undo what the container wrote to its own limits, as it would pass for the OCI runtime's. Raises OSError."""
    top = os.path.dirname(own)
    for name in _names(top):
        with suppress(*_NO_FILE):
            _copy(f"{top}/{name}", f"{own}/{name}")


def thaw(own: str) -> None:
    """Let the container continue."""
    with suppress(OSError):  # gone
        files.write(f"{os.path.dirname(own)}/cgroup.freeze", "0")


def end(plan: Delegation) -> None:
    """After PID 1's end: kill what of ours is still in a cgroup that the container could freeze. Raises nothing."""
    if plan.unmounted:
        unmounted.end(plan.unmounted)


def clear(plan: Delegation, *, patience_s: float) -> None:
    """After the container's end, before delete: remove the cgroups it made below name=systemd, which has no limits.

    An OCI runtime takes minutes for a few thousand levels. What is left after `patience_s` is renamed, so that the OCI
    runtime does not find it, and removed by `remove`.
    """
    if plan.directory and not tree.remove(plan.directory, until=time.monotonic() + patience_s):
        with suppress(OSError):
            os.rename(plan.directory, plan.directory + _LEFT)


def remove(plan: Delegation, *, patience_s: float = 0.0) -> bool:
    """After delete: remove what was made for the container, and the cgroup above it in every hierarchy.

    Return whether nothing is left after `patience_s` seconds. May be called again.
    """
    until = time.monotonic() + patience_s
    is_gone = True
    if plan.directory:  # usually gone with the container
        left = plan.directory + _LEFT
        is_gone = tree.remove(plan.directory, until=until) and tree.remove(left, until=until)
    if plan.unmounted:
        is_gone = unmounted.remove(plan.unmounted, patience_s=patience_s)
    if not plan.parent:
        return is_gone
    for entry in mountinfo.read(fstypes=mountinfo.CGROUPS):
        if entry.root == "/":
            with suppress(OSError):  # it is not there, or another container of this name is in it
                os.rmdir(entry.mount_point + plan.parent)
    return is_gone


def _unified(pid: int, proc: str) -> str:
    """The container's own v2 directory, "" on a host without one."""
    paths = (files.read(f"{proc}/{pid}", "cgroup") or b"").decode(errors="surrogateescape").splitlines()
    path = next((line.removeprefix("0::") for line in paths if line.startswith("0::")), "")
    mounts = mountinfo.read(f"{proc}/self/mountinfo", fstypes=["cgroup2"])
    mount = next((one.mount_point for one in mounts if one.root == "/"), "")
    # A process in the root of the hierarchy has no cgroup of its own.
    return mount + path if mount and path not in ("", "/") else ""


def _give(directory: str, owner: tuple[int, int]) -> None:
    """Give `owner` a cgroup as far as the kernel's delegation allows, so without its limits (cgroup-v2.rst)."""
    if not directory:
        return
    os.chown(directory, *owner)
    for name in (*_delegated(), "tasks"):  # "tasks" is v1's
        with suppress(FileNotFoundError):
            os.chown(f"{directory}/{name}", *owner)


def _delegated() -> tuple[str, ...]:
    listed = files.read("/sys/kernel/cgroup", "delegate") or b"cgroup.procs\ncgroup.threads\ncgroup.subtree_control"
    return tuple(listed.decode().split())


def _names(directory: str) -> tuple[str, ...]:
    huge = (name for name in os.listdir(directory) if name.startswith(_HUGETLB) and name.endswith(".max"))
    return (*_LIMITS, *huge)


def _copy(source: str, target: str) -> None:
    with open(source) as file:
        value = file.read().strip()
    if value == "0" and source.endswith("/cpu.weight"):
        return  # reads as 0 while cpu.idle is 1, and 0 cannot be written
    for line in value.splitlines():  # io.max and rdma.max take one device at a time
        files.write(target, line)
