"""From a pid to its cgroup, by /proc/PID/cgroup (cgroups(7)) and the mounts of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.cgroup.files import read
from runtime.cgroup.model import Cgroup
from runtime.errors import NotFound
from runtime.linux import living, mountinfo
from runtime.linux.mountinfo import MountEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Hierarchies = tuple[MountEntry, ...]
"""What `hierarchies` tells."""

# The v1 controllers that make a host a v1 host: some unified hosts mount net_cls or devices beside v2.
_ACCOUNTING = frozenset({"memory", "cpu", "cpuacct", "pids", "blkio"})


def _memberships(text: bytes) -> dict[str, str]:
    """Controller to path, from /proc/PID/cgroup; the unified hierarchy's key is ""."""
    paths = {}
    # At newlines alone, as a container can give its cgroup a name with any other character.
    for line in filter(None, text.decode(errors="surrogateescape").split("\n")):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _directory(path: str, entry: MountEntry) -> str:
    """Where cgroup `path` shows through the mount `entry` (which may show a part only), or ""."""
    root = entry.root.rstrip("/")
    if path != root and not path.startswith(root + "/"):
        return ""
    return entry.mount_point + path.removeprefix(root).rstrip("/")


def _directories(paths: Mapping[str, str], mounts: Iterable[MountEntry]) -> dict[str, str]:
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
    return not stat or living.is_exiting(stat)


def hierarchies(proc: str = "/proc") -> Hierarchies:
    """The mounts of cgroup file systems that this process sees. Raises OSError."""
    return mountinfo.read(f"{proc}/self/mountinfo", fstypes=mountinfo.CGROUPS)


def locate(pid: int, proc: str = "/proc", *, mounts: Hierarchies | None = None) -> Cgroup:
    """The cgroup of `pid`. On a hybrid host that is its v1 side, if v1 has the controllers that account.

    `mounts` is what `hierarchies` has told; None: it is asked. Raises NotFound if the process is gone or exiting, or no
    cgroup file system is mounted that shows it.
    """
    text = read(f"{proc}/{pid}", "cgroup")
    # v1 shows an exiting process in the root cgroup (kernel/cgroup/cgroup.c, proc_cgroup_show), so ask
    # afterwards.
    if not text or _exiting(pid, proc):
        raise NotFound("cgroup does not exist")
    return of_memberships(_memberships(text), hierarchies(proc) if mounts is None else mounts)


def of_memberships(memberships: Mapping[str, str], mounts: Iterable[MountEntry]) -> Cgroup:
    """The cgroup of a process that is in `memberships`, controller to path with "" for the unified hierarchy's.

    `mounts` are those of this process. Raises NotFound where none of them shows it.
    """
    found = _directories(memberships, mounts)
    unified = found.pop("", "")
    if unified and not _ACCOUNTING & found.keys():
        return Cgroup(unified=unified)
    if not found:
        raise NotFound("cgroup does not exist")
    return Cgroup(controllers=tuple(found.items()))
