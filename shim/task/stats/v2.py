"""The parts of `io.containerd.cgroups.v2.Metrics`, and the files of a v2 cgroup that they come from.

Sources: kernel, Documentation/admin-guide/cgroup-v2.rst and accounting/psi.rst; containerd/cgroups, cgroup2. Not
filled, as containerd's own shim does not: `network`.
"""

from collections.abc import Iterator

from protos.gen import cgroups_v2_pb2
from shim.task.stats import encode
from shim.task.stats.encode import MessageType
from shim.task.stats.parts import FilePart, Part, hugetlb_parts

METRICS = MessageType(cgroups_v2_pb2.Metrics.DESCRIPTOR)
TYPE_URL = cgroups_v2_pb2.Metrics.DESCRIPTOR.full_name

_MAX = (1 << 64) - 1
_PIDS, _CPU, _MEMORY, _IO, _RDMA = map(METRICS.within, ("pids", "cpu", "memory", "io", "rdma"))
ALWAYS = b"".join(message.wrap(b"") for message in (_PIDS, _CPU, _MEMORY, _IO, _RDMA))
"""Messages that are always present, empty if nothing is known: so they are in containerd's cgroups, and clients do not
check."""
_CPU_STAT = (
    *("usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec"),
    *("nr_bursts", "burst_usec"),
)
_MEMORY_STAT = (
    *("anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback"),
    *("anon_thp", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
    *("slab_reclaimable", "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault"),
    *("workingset_activate", "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate"),
    *("pgdeactivate", "pglazyfree", "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc"),
    *("workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file"),
)
_MEMORY_EVENTS = ("low", "high", "max", "oom", "oom_kill", "oom_group_kill")

# File, encoding.
_FILES = (
    ("pids.current", encode.number(_PIDS, "current")),
    ("pids.max", encode.number(_PIDS, "limit", _MAX)),
    ("cpu.stat", encode.keyed(_CPU, _CPU_STAT)),
    ("cpu.pressure", encode.pressure(_CPU.within("psi"))),
    ("memory.stat", encode.keyed(_MEMORY, _MEMORY_STAT)),
    ("memory.current", encode.number(_MEMORY, "usage")),
    ("memory.max", encode.number(_MEMORY, "usage_limit", _MAX)),
    ("memory.peak", encode.number(_MEMORY, "max_usage")),
    ("memory.swap.current", encode.number(_MEMORY, "swap_usage")),
    ("memory.swap.max", encode.number(_MEMORY, "swap_limit", _MAX)),
    ("memory.swap.peak", encode.number(_MEMORY, "swap_max_usage")),
    ("memory.pressure", encode.pressure(_MEMORY.within("psi"))),
    ("memory.events", encode.keyed(METRICS.within("memory_events"), _MEMORY_EVENTS)),
    ("io.stat", encode.io(_IO.within("usage"))),
    ("io.pressure", encode.pressure(_IO.within("psi"))),
    ("rdma.current", encode.rdma(_RDMA.within("current"))),
    ("rdma.max", encode.rdma(_RDMA.within("limit"))),
)
_HUGETLB = METRICS.within("hugetlb")
_HUGETLB_ENTRY = MessageType(cgroups_v2_pb2.HugeTlbStat.DESCRIPTOR)
_HUGETLB_FILES = {
    "current": encode.number(_HUGETLB_ENTRY, "current"),
    "max": encode.number(_HUGETLB_ENTRY, "max", _MAX),
    "events": encode.keyed(_HUGETLB_ENTRY, {"max": "failcnt"}),
}


def parts(directory: str) -> Iterator[Part]:
    """The parts for the cgroup at `directory`. Whether a file exists, the part finds out."""
    for name, how in _FILES:
        yield FilePart(f"{directory}/{name}", how)
    yield from hugetlb_parts(directory, _HUGETLB_FILES, _HUGETLB)
