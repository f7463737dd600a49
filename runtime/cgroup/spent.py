"""The processor time of a cgroup, cheap enough to be asked each second."""

from runtime.cgroup.model import Cgroup


def cpu_s(cgroup: Cgroup) -> float | None:
    """Seconds that it has used by now, with all below it; None where the kernel does not tell."""
    try:
        if cgroup.unified:
            with open(f"{cgroup.unified}/cpu.stat", encoding="ascii") as file:
                return int(file.readline().split()[1]) / 1e6
        with open(f"{cgroup.directory('cpuacct')}/cpuacct.usage", encoding="ascii") as file:
            return int(file.read()) / 1e9
    except (OSError, ValueError, IndexError):
        return None
