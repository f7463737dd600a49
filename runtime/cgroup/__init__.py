"""The control group of a container: found, measured, listed, watched for OOM kills. It changes nothing.

locate(pid)      where a process is, as a `Cgroup`
hierarchies()    what that takes of the host's mounts
procs(cgroup)    the processes in it and below it
oom.watch        a descriptor that becomes readable when the kernel has killed for memory
"""

from runtime.cgroup.locate import Hierarchies, hierarchies, locate
from runtime.cgroup.model import Cgroup
from runtime.cgroup.procs import procs

__all__ = ["Cgroup", "Hierarchies", "hierarchies", "locate", "procs"]
