"""What a cgroup has used: CPU time, cheap enough to be read each second, and memory."""

from runtime.cgroup.files import flat, number, read
from runtime.cgroup.model import Cgroup


def cpu_s(cgroup: Cgroup) -> float | None:
    """Seconds of CPU time used so far by the cgroup and all below it; None where the kernel does not tell."""
    try:
        if cgroup.unified:
            with open(f"{cgroup.unified}/cpu.stat", encoding="ascii") as file:
                return int(file.readline().split()[1]) / 1e6
        with open(f"{cgroup.directory('cpuacct')}/cpuacct.usage", encoding="ascii") as file:
            return int(file.read()) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def working_set_bytes(cgroup: Cgroup) -> int | None:
    """Bytes of memory in use less inactive page cache, as the kubelet counts; None where the kernel does not tell."""
    directory = cgroup.directory("memory")
    names = ("memory.current", "inactive_file") if cgroup.unified else ("memory.usage_in_bytes", "total_inactive_file")
    usage = number(read(directory, names[0]), 0)
    return None if usage is None else max(0, usage - flat(read(directory, "memory.stat")).get(names[1], 0))


def is_frozen(cgroup: Cgroup) -> bool:
    """Whether the cgroup's processes are frozen or being frozen (cgroup-v2.rst, cgroup-v1/freezer-subsystem.rst)."""
    if cgroup.unified:
        return flat(read(cgroup.unified, "cgroup.events")).get("frozen") == 1
    return (read(cgroup.directory("freezer"), "freezer.state") or b"").strip() in (b"FROZEN", b"FREEZING")
