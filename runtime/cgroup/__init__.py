"""The control group of a container: found, measured, listed, watched for OOM kills. It changes nothing.

locate(pid)      where a process is, as a `Cgroup`
procs(cgroup)    the processes in it and below it
oom.watch        a descriptor that becomes readable when the kernel has killed for memory
"""

from runtime.cgroup.locate import locate
from runtime.cgroup.model import Cgroup
from runtime.cgroup.procs import procs

__all__ = ["Cgroup", "locate", "procs"]
