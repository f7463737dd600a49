"""Copies a container's limits into the cgroup of its application, for programs that look for them only there.

An init that makes cgroups of its own starts the application in one of these, below the cgroup that has the limits. Some
language runtimes read only their own cgroup (JDK before 24, Go's GOMAXPROCS since 1.25, libuv) and would take the
node's memory and CPUs for theirs. The copies grant nothing: the limits above still apply. When systemd reloads its
units it writes there what the units say, which is no limit, so an old limit never comes back.
"""

from contextlib import suppress

from runtime.cgroup import files
from runtime.cgroup.locate import locate
from runtime.cgroup.model import Cgroup
from runtime.errors import NotFound

_UNSET = {"memory.max": b"max\n", "cpu.max": b"max 100000\n"}
"""By file, its content where nobody has set a limit."""


class LimitMirror:
    """The limits of the container in `cgroup`, and where they are shown. cgroup v2 only."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._top = cgroup.unified
        self._files: dict[str, bytes] = {}  # by path, the content last read

    def add(self, pid: int) -> None:
        """Show the limits in the cgroup of host process `pid`, if that is below the container's.

        A process that has ended and a cgroup without the controller are left alone.
        """
        with suppress(OSError, NotFound):
            at = locate(pid).unified
            if self._top and at.startswith(f"{self._top}/"):
                self._files = {f"{at}/{name}": unset for name, unset in _UNSET.items()} | self._files
        self.refresh()

    def refresh(self) -> None:
        """Write the container's limits again wherever they were shown, after they have changed.

        A file in which somebody else has set a limit, before or meanwhile, is left alone from then on.
        """
        for path, last in list(self._files.items()):
            directory, _, name = path.rpartition("/")
            if files.read(directory, name) not in (last, _UNSET[name]):
                del self._files[path]
                continue
            with suppress(OSError):  # the cgroup is being removed
                files.write(path, self._limit(name).decode())
            self._files[path] = files.read(directory, name) or _UNSET[name]

    def _limit(self, name: str) -> bytes:
        if name == "cpu.max" and files.read(self._top, "cpu.max.burst") not in (b"0\n", None):
            return _UNSET[name]  # in the lower cgroup a quota without a burst would take the container's burst away
        return files.read(self._top, name) or _UNSET[name]
