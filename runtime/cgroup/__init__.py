"""A container's cgroup: where it is, its processes, its usage, its OOM kills, and what the shim writes to it.

locate(pid)      the cgroup of a process, as a `Cgroup`
hierarchies()    the host's cgroup mounts, which `locate` needs
procs(cgroup)    the processes in the cgroup and below it
oom.watch        a descriptor that becomes readable when the kernel has killed for memory
"""

from runtime.cgroup.locate import Hierarchies, hierarchies, locate
from runtime.cgroup.model import Cgroup
from runtime.cgroup.procs import procs

__all__ = ["Cgroup", "Hierarchies", "hierarchies", "locate", "procs"]
