"""From a PID to its cgroup, by /proc/PID/cgroup (cgroups(7)) and the mounts of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.cgroup.files import read
from runtime.cgroup.model import Cgroup
from runtime.errors import NotFound
from runtime.linux import mountinfo, process_identity
from runtime.linux.mountinfo import MountEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Hierarchies = tuple[MountEntry, ...]
"""The result of `hierarchies`."""

# The v1 controllers that make a host a v1 host. Some hosts on cgroup v2 also mount net_cls or devices as v1.
_ACCOUNTING = frozenset({"memory", "cpu", "cpuacct", "pids", "blkio"})


def memberships_of(text: bytes) -> dict[str, str]:
    """Controller to path, from the text of /proc/PID/cgroup; the unified hierarchy's key is ""."""
    paths = {}
    # Split only at newlines: a container can give its cgroup a name with any other character.
    for line in filter(None, text.decode(errors="surrogateescape").split("\n")):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _directory(path: str, entry: MountEntry) -> str:
    """The directory of the cgroup `path` in the mount `entry` (which may show only a part of the tree), or ""."""
    root = entry.root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return ""
    return entry.mount_point + path.removeprefix(root).rstrip("/")


def directories_of(paths: Mapping[str, str], mounts: Iterable[MountEntry]) -> dict[str, str]:
    """Controller to directory, of the memberships `paths` that `mounts` show."""
    found: dict[str, str] = {}
    for entry in mounts:
        if entry.fstype == "cgroup2":
            names: Iterable[str] = ("",)
        elif entry.fstype == "cgroup":
            names = entry.options
        else:
            continue
        for name in names:
            directory = _directory(paths[name], entry) if name in paths else ""
            if directory:
                found.setdefault(name, directory)
    return found


def _exiting(pid: int, proc: str) -> bool:
    """Whether the process has begun to exit or is gone."""
    stat = read(f"{proc}/{pid}", "stat")
    return not stat or process_identity.is_exiting(stat)


def hierarchies(proc: str = "/proc") -> Hierarchies:
    """The mounts of cgroup file systems that this process sees. Raises OSError."""
    return mountinfo.read(f"{proc}/self/mountinfo", fstypes=mountinfo.CGROUPS)


def locate(pid: int, proc: str = "/proc", *, mounts: Hierarchies | None = None) -> Cgroup:
    """The cgroup of `pid`; on a hybrid host the v1 cgroups, if v1 has the controllers that account.

    `mounts` is a result of `hierarchies`; None: call it. Raises NotFound if the process is gone or exiting, or if no
    mounted cgroup file system shows the cgroup.
    """
    text = read(f"{proc}/{pid}", "cgroup")
    # v1 shows an exiting process in the root cgroup (kernel/cgroup/cgroup.c, proc_cgroup_show), so check for an exit
    # after reading.
    if not text or _exiting(pid, proc):
        raise NotFound("cgroup does not exist")
    return of_memberships(memberships_of(text), hierarchies(proc) if mounts is None else mounts)


def of_memberships(memberships: Mapping[str, str], mounts: Iterable[MountEntry]) -> Cgroup:
    """The cgroup of a process in `memberships`: controller to path, with "" for the unified hierarchy.

    `mounts` are those of this process. Raises NotFound where none of them shows the cgroup.
    """
    found = directories_of(memberships, mounts)
    unified = found.pop("", "")
    if unified and not _ACCOUNTING & found.keys():
        return Cgroup(unified=unified)
    if not found:
        raise NotFound("cgroup does not exist")
    return Cgroup(controllers=tuple(found.items()))
