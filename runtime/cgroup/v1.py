"""Metrics of the v1 hierarchies, as the fields of `io.containerd.cgroups.v1.Metrics`.

Sources: kernel Documentation/admin-guide/cgroup-v1; field names as containerd/cgroups. Not filled, as nobody
in containerd or the kubelet reads them: `network` and `cgroup_stats`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.cgroup.files import flat, hugetlb_sizes, lines, number, rdma, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Fields = dict[str, Any]

_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

# memory.stat's keys where the field has another name.
_RENAMED = {
    "pgpgin": "pg_pg_in",
    "pgpgout": "pg_pg_out",
    "pgfault": "pg_fault",
    "pgmajfault": "pg_maj_fault",
    "total_pgpgin": "total_pg_pg_in",
    "total_pgpgout": "total_pg_pg_out",
    "total_pgfault": "total_pg_fault",
    "total_pgmajfault": "total_pg_maj_fault",
    "hierarchical_memsw_limit": "hierarchical_swap_limit",
}
_LOCAL = (
    "cache rss rss_huge mapped_file dirty writeback pgpgin pgpgout pgfault pgmajfault"
    " inactive_anon active_anon inactive_file active_file unevictable"
)
_MEMORY_STAT = (
    *_LOCAL.split(),
    *(f"total_{key}" for key in _LOCAL.split()),
    "hierarchical_memory_limit",
    "hierarchical_memsw_limit",
)

# Field of MemoryStat to the prefix of its files; field of MemoryEntry to their ends.
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
    "periods": "nr_periods",
    "throttled_periods": "nr_throttled",
    "throttled_time": "throttled_time",
}

# Field to the files that may hold it. Which one does depends on the I/O scheduler: CFQ (before 5.0), BFQ, or
# none, where the throttling layer counts. The first with a line for a device wins.
_BLKIO = {
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


def _present(values: Mapping[str, int | None]) -> Fields:
    return {name: value for name, value in values.items() if value is not None}


def _pids(directory: str) -> Fields:
    # No limit is 0 here, not 2^64-1.
    return _present(
        {
            "current": number(read(directory, "pids.current"), 0),
            "limit": number(read(directory, "pids.max"), 0),
        }
    )


def _cpu_usage(directory: str) -> Fields:
    ticks = flat(read(directory, "cpuacct.stat"))
    usage = _present({"total": number(read(directory, "cpuacct.usage"), 0)})
    for field, key in {"user": "user", "kernel": "system"}.items():
        if key in ticks:
            usage[field] = ticks[key] * _NS_PER_TICK
    per_cpu = [int(word) for words in lines(read(directory, "cpuacct.usage_percpu")) for word in words]
    return {**usage, "per_cpu": per_cpu} if per_cpu else usage


def _throttling(directory: str) -> Fields:
    found = flat(read(directory, "cpu.stat"))
    return {field: found[key] for field, key in _THROTTLING.items() if key in found}


def _memory(directory: str) -> Fields:
    found = flat(read(directory, "memory.stat"))
    memory: Fields = {_RENAMED.get(key, key): found[key] for key in _MEMORY_STAT if key in found}
    for field, prefix in _MEMORY_ENTRIES.items():
        entry = _present({name: number(read(directory, f"{prefix}.{end}"), 0) for name, end in _MEMORY_ENTRY.items()})
        if entry:
            memory[field] = entry
    return memory


def _oom_control(directory: str) -> Fields:
    found = flat(read(directory, "memory.oom_control"))
    return {key: found[key] for key in ("oom_kill_disable", "under_oom", "oom_kill") if key in found}


def _device(major: str, minor: str) -> str:
    try:
        return "/dev/" + os.path.basename(os.readlink(f"/sys/dev/block/{major}:{minor}"))
    except OSError:
        return ""


def _blkio_entries(text: bytes | None) -> Iterator[Fields]:
    """`8:0 Read 4096`, or without an operation `8:0 77`; the total of all devices is left out."""
    for words in lines(text):
        major, _, minor = words[0].partition(":")
        if len(words) in (2, 3) and major.isdigit() and minor.isdigit() and words[-1].isdigit():
            yield {
                "op": words[1] if len(words) == 3 else "",
                "device": _device(major, minor),
                "major": int(major),
                "minor": int(minor),
                "value": int(words[-1]),
            }


def _blkio(directory: str) -> Fields:
    result: Fields = {}
    for field, files in _BLKIO.items():
        for file in files:
            entries = list(_blkio_entries(read(directory, file)))
            if entries:
                result[field] = entries
                break
    return result


def _hugetlb(directory: str) -> list[Fields]:
    return [
        {
            "pagesize": size,
            **_present(
                {
                    "usage": number(read(directory, f"hugetlb.{size}.usage_in_bytes"), 0),
                    "max": number(read(directory, f"hugetlb.{size}.max_usage_in_bytes"), 0),
                    "failcnt": number(read(directory, f"hugetlb.{size}.failcnt"), 0),
                }
            ),
        }
        for size in hugetlb_sizes(directory, "usage_in_bytes")
    ]


def _rdma(directory: str) -> Fields:
    found = {"current": rdma(read(directory, "rdma.current")), "limit": rdma(read(directory, "rdma.max"))}
    return found if any(found.values()) else {}


def _cpu(cpu: str, cpuacct: str) -> Fields:
    parts = {
        "usage": _cpu_usage(cpuacct) if cpuacct else {},
        "throttling": _throttling(cpu) if cpu else {},
    }
    return {name: part for name, part in parts.items() if part}


# Message to its controller and reader. `cpu` takes two controllers and comes apart.
_MESSAGES = {
    "hugetlb": ("hugetlb", _hugetlb),
    "pids": ("pids", _pids),
    "memory": ("memory", _memory),
    "blkio": ("blkio", _blkio),
    "rdma": ("rdma", _rdma),
    "memory_oom_control": ("memory", _oom_control),
}


def metrics(directories: Mapping[str, str]) -> Fields:
    """All metrics of the controllers in `directories`; what is missing is absent."""
    result: Fields = {
        message: value
        for message, (controller, reader) in _MESSAGES.items()
        if controller in directories and (value := reader(directories[controller]))
    }
    cpu = _cpu(directories.get("cpu", ""), directories.get("cpuacct", ""))
    return {**result, "cpu": cpu} if cpu else result
