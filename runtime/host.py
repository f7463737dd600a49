"""Facts about the host that matter to a container with a real init: its cgroups, and the resource limits we pass on.

Read at each call and never cached: hierarchies are mounted and remounted while pod servers live.
"""

import os
import resource
from collections.abc import Iterable
from typing import NamedTuple

from runtime.linux import mountinfo, open_files
from runtime.linux.mountinfo import MountEntry

RLIM_INFINITY = 2**64 - 1
_LIMITS = 16
"""The number of resource limits: RLIMIT_CPU (0) to RLIMIT_RTTIME (15), <asm-generic/resource.h>."""

CGROUPS = "/sys/fs/cgroup"
NESTED = "pouchrich"
"""The name of a container's lower cgroup, where the limits stay on the upper one (`runtime.init.cgroup`)."""


class HostFacts(NamedTuple):
    """`cgroups` is `unified` (v2 alone), `hybrid` (v1 controllers with a v2 tree beside them) or `v1`.

    `nsdelegate`: the kernel keeps a process in a cgroup namespace from writing the limits of the namespace's root
    (cgroup-v2.rst, "Delegation"). `named` is the mount point of v1's `name=systemd` hierarchy, empty where it is not
    mounted. `rlimits`, each (resource number, soft, hard), are the limits that this process passes on: a container's
    where its spec names none. `systemd`: systemd is the host's PID 1, so it may make the containers' cgroups.
    """

    cgroups: str = "unified"
    nsdelegate: bool = True
    named: str = ""
    rlimits: tuple[tuple[int, int, int], ...] = ()
    systemd: bool = True


def has_systemd(directory: str = "/run/systemd/system") -> bool:
    """Whether systemd is this host's PID 1 (sd_booted(3))."""
    return os.path.isdir(directory) and not os.path.islink(directory)


def _visible(entries: Iterable[MountEntry]) -> list[MountEntry]:
    """The mounts that no later mount covers, at the same place or above."""
    found: list[MountEntry] = []
    for entry in entries:
        below = entry.mount_point.rstrip("/") + "/"
        found = [one for one in found if not f"{one.mount_point}/".startswith(below)]
        found.append(entry)
    return found


def layout_from_mounts(entries: Iterable[MountEntry]) -> tuple[str, bool, str]:
    """The host's cgroup layout by its mounts below /sys/fs/cgroup: `cgroups`, `nsdelegate`, `named`."""
    form, delegates, named, has_v1 = "v1", False, "", False
    for entry in _visible(entries):
        if entry.mount_point != CGROUPS and not entry.mount_point.startswith(f"{CGROUPS}/"):
            continue
        if entry.fstype == "cgroup2":
            # Container runtimes judge the host by the mount at the top (statfs, in runc and crun).
            form = "unified" if entry.mount_point == CGROUPS else "hybrid"
            delegates = "nsdelegate" in entry.options
        elif entry.fstype == "cgroup":
            has_v1 = True
            named = entry.mount_point if "name=systemd" in entry.options else named
    if form == "hybrid" and not has_v1:
        form = "unified"
    return form, delegates, named


def _own_limit(number: int) -> tuple[int, int, int]:
    found = open_files.inherited() if number == resource.RLIMIT_NOFILE else resource.getrlimit(number)
    soft, hard = (RLIM_INFINITY if value < 0 else value for value in found)
    return number, soft, hard


def read(mounts: str = "/proc/self/mountinfo") -> HostFacts:
    """The facts about this host. Raises OSError where /proc cannot be read."""
    form, delegates, named = layout_from_mounts(mountinfo.around(CGROUPS, mounts))
    limits = tuple(_own_limit(one) for one in range(_LIMITS))
    return HostFacts(form, delegates, named, limits, has_systemd())
