"""The parts of `io.containerd.cgroups.v1.Metrics`, and the files of the v1 hierarchies that they come from.

Sources: kernel, Documentation/admin-guide/cgroup-v1; containerd/cgroups, cgroup1. Not filled, as nobody in containerd
or the kubelet reads them: `network` and `cgroup_stats`.
"""

import os
from collections.abc import Iterator, Mapping

from protos.gen import cgroups_v1_pb2
from shim.task.stats import encode
from shim.task.stats.encode import MessageType
from shim.task.stats.parts import FilePart, FirstPart, Part, hugetlb_parts

METRICS = MessageType(cgroups_v1_pb2.Metrics.DESCRIPTOR)
TYPE_URL = cgroups_v1_pb2.Metrics.DESCRIPTOR.full_name

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_CPU, _MEMORY, _BLKIO, _RDMA = map(METRICS.within, ("cpu", "memory", "blkio", "rdma"))
_USAGE = _CPU.within("usage")
_PIDS = METRICS.within("pids")
_HUGETLB = METRICS.within("hugetlb")
_THROTTLED = _CPU.within("throttling")
_CPU_ALWAYS = _USAGE.wrap(b"") + _THROTTLED.wrap(b"")
_ALWAYS = {"pids": _PIDS, "memory": _MEMORY, "blkio": _BLKIO, "rdma": _RDMA}

_LOCAL = (
    *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback"),
    *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
)
_RENAMED = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
}
_OF_ONE_CGROUP = {**{name: name for name in _LOCAL}, **_RENAMED}
_MEMORY_STAT = {
    **_OF_ONE_CGROUP,
    **{f"total_{key}": f"total_{field}" for key, field in _OF_ONE_CGROUP.items()},
    "hierarchical_memory_limit": "hierarchical_memory_limit",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}

# Field of MemoryStat -> prefix of its files; field of MemoryEntry -> the rest of the files' names.
_MEMORY_ENTRIES = {
    "usage": "memory",
    "swap": "memory.memsw",
    "kernel": "memory.kmem",
    "kernel_tcp": "memory.kmem.tcp",
}
_MEMORY_ENTRY = {
    "limit": "limit_in_bytes",
    "usage": "usage_in_bytes",
    "max": "max_usage_in_bytes",
    "failcnt": "failcnt",
}

_THROTTLING = {
    "nr_periods": "periods",
    "nr_throttled": "throttled_periods",
    "throttled_time": "throttled_time",
}

# Controller, file, encoding.
_FILES = (
    ("pids", "pids.current", encode.number(_PIDS, "current")),
    ("pids", "pids.max", encode.number(_PIDS, "limit")),  # for pids "max" becomes 0, not 2^64-1
    ("cpuacct", "cpuacct.usage", encode.number(_USAGE, "total")),
    ("cpuacct", "cpuacct.stat", encode.keyed(_USAGE, {"user": "user", "system": "kernel"}, _NS_PER_TICK)),
    ("cpuacct", "cpuacct.usage_percpu", encode.numbers(_USAGE, "per_cpu")),
    ("cpu", "cpu.stat", encode.keyed(_THROTTLED, _THROTTLING)),
    ("memory", "memory.stat", encode.keyed(_MEMORY, _MEMORY_STAT)),
    *(
        ("memory", f"{prefix}.{end}", encode.number(_MEMORY.within(entry), field))
        for entry, prefix in _MEMORY_ENTRIES.items()
        for field, end in _MEMORY_ENTRY.items()
    ),
    (
        "memory",
        "memory.oom_control",
        encode.keyed(METRICS.within("memory_oom_control"), ("oom_kill_disable", "under_oom", "oom_kill")),
    ),
    ("rdma", "rdma.current", encode.rdma(_RDMA.within("current"))),
    ("rdma", "rdma.max", encode.rdma(_RDMA.within("limit"))),
)

# Field -> the files that may hold it. Which one does depends on the I/O scheduler: CFQ (before 5.0), BFQ, or none,
# where the throttling layer counts. The first file with a line for a device wins.
_BLKIO_FILES = {
    "io_service_bytes_recursive": (
        "blkio.io_service_bytes_recursive",
        "blkio.bfq.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes_recursive",
        "blkio.throttle.io_service_bytes",
    ),
    "io_serviced_recursive": (
        "blkio.io_serviced_recursive",
        "blkio.bfq.io_serviced_recursive",
        "blkio.throttle.io_serviced_recursive",
        "blkio.throttle.io_serviced",
    ),
    "io_queued_recursive": ("blkio.io_queued_recursive", "blkio.bfq.io_queued_recursive"),
    "io_service_time_recursive": ("blkio.io_service_time_recursive", "blkio.bfq.io_service_time_recursive"),
    "io_wait_time_recursive": ("blkio.io_wait_time_recursive", "blkio.bfq.io_wait_time_recursive"),
    "io_merged_recursive": ("blkio.io_merged_recursive", "blkio.bfq.io_merged_recursive"),
    "io_time_recursive": ("blkio.time_recursive", "blkio.bfq.time_recursive"),
    "sectors_recursive": ("blkio.sectors_recursive", "blkio.bfq.sectors_recursive"),
}


def _device(major: int, minor: int) -> bytes:
    try:
        return b"/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{major}:{minor}")).encode()
    except OSError:
        return b""


_BLKIO_ENCODE = {field: encode.blkio(_BLKIO.within(field), _device) for field in _BLKIO_FILES}
_HUGETLB_ENTRY = MessageType(cgroups_v1_pb2.HugetlbStat.DESCRIPTOR)
_HUGETLB_FILES = {
    "usage_in_bytes": encode.number(_HUGETLB_ENTRY, "usage"),
    "max_usage_in_bytes": encode.number(_HUGETLB_ENTRY, "max"),
    "failcnt": encode.number(_HUGETLB_ENTRY, "failcnt"),
}


def always(directories: Mapping[str, str]) -> bytes:
    """The messages that are always present for these controllers, as `v2.ALWAYS`.

    containerd reads the CPU's without checking whether it is present (core/metrics/cgroups/v1).
    """
    return _CPU_ALWAYS + b"".join(message.wrap(b"") for name, message in _ALWAYS.items() if name in directories)


def parts(directories: Mapping[str, str]) -> Iterator[Part]:
    """The parts for `directories`, controller -> directory. Whether a file exists, the part finds out."""
    for controller, name, how in _FILES:
        if controller in directories:
            yield FilePart(f"{directories[controller]}/{name}", how)
    if blkio := directories.get("blkio"):
        for field, names in _BLKIO_FILES.items():
            yield FirstPart([f"{blkio}/{name}" for name in names], _BLKIO_ENCODE[field])
    if hugetlb := directories.get("hugetlb"):
        yield from hugetlb_parts(hugetlb, _HUGETLB_FILES, _HUGETLB)
