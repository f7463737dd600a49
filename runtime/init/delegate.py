"""A writable cgroup subtree for a container whose PID 1 does not make cgroups itself: `rich.cgroup = "delegate"`.

Only cgroup v2 can be delegated (cgroup-v2.rst, "Delegation"). The container's own cgroup is the root of its cgroup
namespace and writable, and `runtime.init.cgroup.layout` keeps its limits out of reach. A cgroup that enables
controllers for its children may hold no process ("No Internal Process Constraint"), so PID 1 goes one level down, into
LEAF.
"""

from dataclasses import replace

from runtime.errors import InvalidArgument
from runtime.init import cgroup, process
from runtime.init.base import ModeInput
from runtime.init.cgroup import Delegation
from runtime.spec import ids
from runtime.spec.edit import Step

LEAF = "app"


def refuse_handles(setting: ModeInput) -> None:
    """Raise InvalidArgument where root in the container could open and write to cgroups other than its own.

    With file handles a process can open any file of a file system of which it has some mount (open_by_handle_at(2)),
    and the container's writable cgroup mount is one of the node's whole cgroup file system. A process with
    CAP_SYS_ADMIN needs no file handles for that; in a user namespace the kernel allows none.
    """
    if ids.in_user_namespace(setting.spec) or process.has_capability(setting, "CAP_SYS_ADMIN"):
        return
    by_pod = replace(setting, capabilities=None)  # the bounding set of an exec
    for where, one in (("process.capabilities.bounding", by_pod), ("rich.init-capabilities", setting)):
        if process.has_capability(one, "CAP_DAC_READ_SEARCH"):
            way_out = f"or use {setting.delegates} = pod" if setting.delegates else "or use mode dumb-init"
            raise InvalidArgument(
                f"config.json: {where}: found CAP_DAC_READ_SEARCH, allowed a set without it in mode {setting.mode}:"
                f" with it, root in the container could write to any cgroup of the node by handle; drop it, {way_out}"
            )


def subtree(setting: ModeInput) -> tuple[tuple[Step, ...], Delegation | None]:
    """The steps for a subtree where the node wants one, and what the caller does besides; else nothing, and None.

    Raises InvalidArgument where the host, the spec's capabilities, a mount of the pod or the form of linux.cgroupsPath
    does not allow it.
    """
    if not setting.delegates:
        return (), None
    host = setting.host
    if host.cgroups != "unified":
        raise InvalidArgument(
            f"{setting.delegates}: found delegate, allowed on this host only pod: its cgroups are {host.cgroups}, and"
            " only with cgroup v2 alone does the kernel keep a container below its own limits"
        )
    refuse_handles(setting)
    written = {point.destination: point.resolved for point in setting.mounts}
    steps, made = cgroup.layout(setting.spec, host, setting.cgroup_limits, written)
    return steps, replace(made, leaf=LEAF)
