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

_UNSET = {"memory.max": b"max\n", "cpu.max": b"max 100000\n"}
"""File to what it says where nobody has set a limit."""


class Shown:
    """What is shown of the limits of the container in `cgroup`: cgroup v2 alone."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._top = cgroup.unified
        self._files: dict[str, bytes] = {}  # and what the kernel last said of each

    def to(self, pid: int) -> None:
        """Have the cgroup of host process `pid`, where it is below the container's, say what that says.

        What has ended meanwhile, or has no such controller, is left.
        """
        with suppress(OSError, NotFound):
            at = locate(pid).unified
            if self._top and at.startswith(f"{self._top}/"):
                self._files = {f"{at}/{name}": unset for name, unset in _UNSET.items()} | self._files
        self.again()

    def again(self) -> None:
        """The container's limits have changed: write them wherever they were shown, for what is there lives on.

        A limit that somebody else has set there meanwhile, or before, is left from then on.
        """
        for path, last in list(self._files.items()):
            directory, _, name = path.rpartition("/")
            if files.read(directory, name) not in (last, _UNSET[name]):
                del self._files[path]
                continue
            with suppress(OSError):  # the cgroup goes
                files.write(path, self._limit(name).decode())
            self._files[path] = files.read(directory, name) or _UNSET[name]

    def _limit(self, name: str) -> bytes:
        if name == "cpu.max" and files.read(self._top, "cpu.max.burst") not in (b"0\n", None):
            return _UNSET[name]  # below, a quota without a burst of its own would take the container's away
        return files.read(self._top, name) or _UNSET[name]
