"""Metrics of the unified hierarchy, as the fields of `io.containerd.cgroups.v2.Metrics`.

Sources: kernel Documentation/admin-guide/cgroup-v2.rst and accounting/psi.rst; field names as
containerd/cgroups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.cgroup.files import flat, hugetlb_sizes, nested, number, rdma, read

if TYPE_CHECKING:
    from typing import Any

    Fields = dict[str, Any]

_MAX = (1 << 64) - 1

# Message, field, file with one number.
_NUMBERS = (
    ("pids", "current", "pids.current"),
    ("pids", "limit", "pids.max"),
    ("memory", "usage", "memory.current"),
    ("memory", "usage_limit", "memory.max"),
    ("memory", "max_usage", "memory.peak"),
    ("memory", "swap_usage", "memory.swap.current"),
    ("memory", "swap_limit", "memory.swap.max"),
    ("memory", "swap_max_usage", "memory.swap.peak"),
)

# Message, file of `KEY NUMBER` lines, the keys that are fields of that name.
_KEYED = (
    (
        "cpu",
        "cpu.stat",
        "usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec nr_bursts burst_usec",
    ),
    (
        "memory",
        "memory.stat",
        "anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp"
        " inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable slab_unreclaimable"
        " pgfault pgmajfault workingset_refault workingset_activate workingset_nodereclaim pgrefill pgscan"
        " pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed thp_fault_alloc thp_collapse_alloc"
        " workingset_refault_anon workingset_refault_file workingset_activate_anon workingset_activate_file",
    ),
    ("memory_events", "memory.events", "low high max oom oom_kill oom_group_kill"),
)

# Message, pressure file.
_PRESSURE = (("cpu", "cpu.pressure"), ("memory", "memory.pressure"), ("io", "io.pressure"))

_IO_FIELDS = ("rbytes", "wbytes", "rios", "wios")


def _pressure(text: bytes | None) -> Fields:
    """`some avg10=0.12 avg60=0.00 avg300=0.00 total=34` and the same for `full`."""
    result: Fields = {}
    for kind, values in nested(text):
        if kind in ("some", "full"):
            averages = {name: float(values[name]) for name in ("avg10", "avg60", "avg300") if name in values}
            result[kind] = {**averages, "total": int(values.get("total", 0))}
    return result


def _io(text: bytes | None) -> list[Fields]:
    """`8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`, one line a device."""
    entries = []
    for device, values in nested(text):
        major, _, minor = device.partition(":")
        if major.isdigit() and minor.isdigit():
            counters = {name: int(values[name]) for name in _IO_FIELDS if values.get(name, "").isdigit()}
            entries.append({"major": int(major), "minor": int(minor), **counters})
    return entries


def _hugetlb(directory: str) -> list[Fields]:
    entries = []
    for size in hugetlb_sizes(directory, "current"):
        prefix = f"hugetlb.{size}"
        values = {
            "current": number(read(directory, f"{prefix}.current"), _MAX),
            "max": number(read(directory, f"{prefix}.max"), _MAX),
            "failcnt": flat(read(directory, f"{prefix}.events")).get("max"),
        }
        entries.append({"pagesize": size, **{name: value for name, value in values.items() if value is not None}})
    return entries


def metrics(directory: str) -> Fields:
    """All of `directory`'s metrics; what is missing is absent."""
    result: Fields = {}
    for message, field, file in _NUMBERS:
        value = number(read(directory, file), _MAX)
        if value is not None:
            result.setdefault(message, {})[field] = value
    for message, file, keys in _KEYED:
        found = flat(read(directory, file))
        if found:
            result.setdefault(message, {}).update({key: found[key] for key in keys.split() if key in found})
    io = _io(read(directory, "io.stat"))
    if io:
        result["io"] = {"usage": io}
    for message, file in _PRESSURE:
        pressure = _pressure(read(directory, file))
        if pressure:
            result.setdefault(message, {})["psi"] = pressure
    limits = {"current": rdma(read(directory, "rdma.current")), "limit": rdma(read(directory, "rdma.max"))}
    if any(limits.values()):
        result["rdma"] = limits
    hugetlb = _hugetlb(directory)
    if hugetlb:
        result["hugetlb"] = hugetlb
    return result
