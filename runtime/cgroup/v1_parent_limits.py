"""Copies v1 limits to the cgroup that the node reads, one level above the container's own (`runtime.init.cgroup`).

The OCI runtime sets the limits on the lower cgroup. The upper one needs a copy: without it cAdvisor, which reads at
cgroupsPath, reports no limits, and cpu.shares, which apply among siblings, have no effect. The container sees neither
of these v1 cgroups, so it can change neither.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from runtime.cgroup import files

# By controller, in the order in which they can be written (admin-guide/cgroup-v1; scheduler/sched-bwc.rst).
_LIMITS = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"),
    "cpu": ("cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "pids": ("pids.max",),
    "blkio": (
        *("blkio.weight", "blkio.bfq.weight", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"),
        *("blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"),
    ),
    "rdma": ("rdma.max",),
}
_UNLIMITED = {"cpu": ("cpu.cfs_quota_us",), "memory": ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes")}
_DEVICE_LINES = ("blkio.throttle.", "rdma.")


def loosen_parent(directories: Mapping[str, str]) -> None:
    """Before an update: let the lower level have more than the upper has now. `copy_to_parent` always follows.

    The quota and the CPU set of a cgroup may not exceed those of the one above. `directories` are the lower ones, by
    controller. What the kernel refuses is left as it is.
    """
    for controller, lower in directories.items():
        upper = os.path.dirname(lower)
        for name in _UNLIMITED.get(controller, ()):
            _write(f"{upper}/{name}", "-1")
        for name in _LIMITS["cpuset"] if controller == "cpuset" else ():
            _write(f"{upper}/{name}", _read(os.path.dirname(upper), name))


def copy_to_parent(directories: Mapping[str, str]) -> None:
    """After create and each update: copy the lower level's limits to the upper. Raises nothing: the lower one holds."""
    loosen_parent(directories)
    for controller, lower in directories.items():
        upper = os.path.dirname(lower)
        for name in (*_LIMITS.get(controller, ()), *_hugetlb(controller, lower)):
            value = _read(lower, name)
            for line in value.splitlines() if name.startswith(_DEVICE_LINES) else filter(None, (value,)):
                _write(f"{upper}/{name}", line)


def _hugetlb(controller: str, directory: str) -> Iterator[str]:
    if controller == "hugetlb":
        yield from (f"hugetlb.{size}.limit_in_bytes" for size in files.hugetlb_sizes(directory, "limit_in_bytes"))


def _read(directory: str, name: str) -> str:
    return (files.read(directory, name) or b"").decode(errors="replace").strip()


def _write(path: str, value: str) -> None:
    with suppress(OSError):
        files.write(path, value)
