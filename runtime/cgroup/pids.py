"""Limits on the number of processes in a cgroup: which apply, how often one was reached, and none at all for a while.

Sources: kernel, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/pids.rst. On v1, and on v2 before Linux 6.11,
`pids.events` counts in the cgroup that forked; since then in the cgroup whose limit was reached and in all above.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from runtime.cgroup.files import flat, number, read, write
from runtime.cgroup.model import Cgroup
from runtime.linux import mountinfo

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_LIMIT = 1 << 63


def _upwards(cgroup: Cgroup) -> Iterator[str]:
    """The cgroup's directory and those above it, without the root, which has no limit."""
    directory = cgroup.directory("pids")
    while directory and os.path.exists(f"{directory}/pids.max"):
        yield directory
        directory = os.path.dirname(directory)


def refused_forks(cgroup: Cgroup) -> int:
    """The number of refused forks so far: the cgroup's or, where the counter does not tell them apart, its pod's."""
    counts = (flat(read(directory, "pids.events")).get("max", 0) for directory in _upwards(cgroup))
    return max(counts, default=0)


def limit(cgroup: Cgroup) -> tuple[int, str] | None:
    """The lowest limit that applies to the cgroup, and the directory that has it; None where there is none."""
    found = [(number(read(directory, "pids.max"), _NO_LIMIT), directory) for directory in _upwards(cgroup)]
    limits = [(most, directory) for most, directory in found if most is not None and most < _NO_LIMIT]
    return min(limits, default=None)


def limit_above(path: str, *, mounts: str = "/proc/self/mountinfo") -> tuple[int, str] | None:
    """The `limit` for a container whose cgroup was to be `path` below the mount of its hierarchy.

    Only the cgroups above it are read, because an OCI runtime that fails removes the container's own. None where no
    mount shows them.
    """
    for entry in mountinfo.read(mounts, fstypes=mountinfo.CGROUPS):
        directory = os.path.dirname(f"{entry.mount_point}{path}")
        if entry.root == "/" and os.path.exists(f"{directory}/pids.max"):
            return limit(Cgroup(unified=directory))
    return None


@contextmanager
def no_forks(cgroup: Cgroup | None) -> Iterator[None]:
    """Within the context no process in the cgroup or below it can fork. No effect without the controller."""
    file = f"{cgroup.directory('pids') if cgroup is not None else ''}/pids.max"
    before = read(*os.path.split(file))
    if before is None:
        yield
        return
    with suppress(OSError):
        write(file, "0")
    try:
        yield
    finally:
        with suppress(OSError):
            write(file, before.decode().strip())
