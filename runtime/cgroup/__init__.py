"""The control group of a container: found, measured, listed, watched for OOM kills. It changes nothing.

locate(pid)      where a process is, as a `Cgroup`
metrics(cgroup)  what containerd's metrics messages hold, as plain dictionaries
procs(cgroup)    the processes in it and below it
oom.watch        a descriptor that becomes readable when the kernel has killed for memory
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.cgroup import v1, v2
from runtime.cgroup.locate import locate
from runtime.cgroup.model import Cgroup
from runtime.cgroup.procs import procs
from runtime.errors import NotFound

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Cgroup", "locate", "metrics", "procs"]


def metrics(cgroup: Cgroup) -> dict[str, Any]:
    """The fields of `io.containerd.cgroups.v1.Metrics`, or `...v2.Metrics` for a unified cgroup.

    What the kernel does not offer is absent. Raises NotFound if the cgroup is gone.
    """
    if not cgroup.exists():
        raise NotFound("cgroup does not exist")
    return v2.metrics(cgroup.unified) if cgroup.unified else v1.metrics(dict(cgroup.controllers))
