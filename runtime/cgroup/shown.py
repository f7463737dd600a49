"""The limits of a container, shown in the cgroup where its application is.

Under an init that makes cgroups of its own that is one of these, and the limits stand above. Language runtimes look for
theirs where they are: JDK before 24, Go's GOMAXPROCS since 1.25 and libuv read no cgroup above, and would take the
node's memory and processors for theirs. No more is had by it: what the container may use is decided above, first. A
systemd that reloads its units writes there what those say, which is nothing; so an old limit never comes back.
"""

from contextlib import suppress

from runtime.cgroup import files
from runtime.cgroup.locate import locate
from runtime.cgroup.model import Cgroup
from runtime.errors import NotFound

_SHOWN = ("memory.max", "cpu.max")


def limits(pid: int, cgroup: Cgroup | None) -> None:
    """Have the cgroup of host process `pid`, where it is below `cgroup`, say what that says: cgroup v2 alone.

    What has ended meanwhile, or has no such controller, is left.
    """
    if cgroup is None or not cgroup.unified:
        return
    with suppress(OSError, NotFound):
        at = locate(pid).unified
        for name in _SHOWN if at.startswith(f"{cgroup.unified}/") else ():
            with suppress(OSError):
                files.write(f"{at}/{name}", (files.read(cgroup.unified, name) or b"").decode())
