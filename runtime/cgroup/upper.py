"""The v1 limits of a container whose cgroup is one level below the one that the node looks at (`runtime.init.cgroup`).

They stand on both: the lower has what the OCI runtime sets, the upper a copy. Without the copy cAdvisor, which goes by
cgroupsPath, reports no limits, and cpu.shares, which count among neighbours, would count for nothing. A container sees
no v1 controller there, so both are out of its reach.
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


def loosen(directories: Mapping[str, str]) -> None:
    """Before an update: let the lower level have more than the upper has now; `copy` follows in any case.

    A quota or a set of processors below may not exceed the one above. `directories` are the lower ones, by controller.
    What the kernel does not let through is left.
    """
    for controller, lower in directories.items():
        upper = os.path.dirname(lower)
        for name in _UNLIMITED.get(controller, ()):
            _write(f"{upper}/{name}", "-1")
        for name in _LIMITS["cpuset"] if controller == "cpuset" else ():
            _write(f"{upper}/{name}", _read(os.path.dirname(upper), name))


def copy(directories: Mapping[str, str]) -> None:
    """After create and each update: give the upper level what the lower has. Raises nothing: the lower one holds."""
    loosen(directories)
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
