"""A container's metrics, put together from parts that keep their files."""

import time

from google.protobuf.any_pb2 import Any

from runtime.cgroup import Cgroup
from runtime.errors import NotFound
from shim.task.stats import v1, v2
from shim.task.stats.parts import Part

LOOK_AGAIN_S = 60.0
"""For files that were not there: a controller may be enabled, or an I/O scheduler loaded, after Create."""


class Metrics:
    """Of one container; None where its cgroup was not found. `close` in the end: what is kept open would stay so."""

    def __init__(self, cgroup: Cgroup | None) -> None:
        self._cgroup = cgroup
        self._type_url = v2.TYPE_URL if cgroup is not None and cgroup.unified else v1.TYPE_URL
        self._parts: list[Part] = []
        self._looked = -LOOK_AGAIN_S

    def to_any(self) -> Any:
        """The metrics as the kernel tells them now; what it does not offer is absent.

        The type URL is the bare message name: containerd looks it up as it is (typeurl), without protobuf's usual
        `type.googleapis.com/` in front. Raises NotFound if the cgroup is gone, Unavailable where no descriptor is left
        to look.
        """
        if time.monotonic() >= self._looked + LOOK_AGAIN_S:
            self._look()
        try:
            value = self._read()
        except OSError:  # the cgroup has gone, or one of its controllers
            self._look()
            value = self._read()
        return Any(type_url=self._type_url, value=value)

    def _read(self) -> bytes:
        return b"".join([part.chunk() for part in self._parts])

    def _look(self) -> None:
        """Find out which files there are. Raises as `to_any`."""
        self.rest()
        if self._cgroup is None or not self._cgroup.exists():
            raise NotFound("cgroup does not exist")
        unified = self._cgroup.unified
        found = v2.parts(unified) if unified else v1.parts(dict(self._cgroup.controllers))
        for part in found:
            if _is_there(part):
                self._parts.append(part)
        self._looked = time.monotonic()

    def rest(self) -> None:
        """Give all descriptors back until the next time."""
        for part in self._parts:
            part.close()
        self._parts = []
        self._looked = -LOOK_AGAIN_S

    def close(self) -> None:
        """Give all descriptors back for good. May be repeated."""
        self.rest()
        self._cgroup = None


def _is_there(part: Part) -> bool:
    try:
        part.chunk()
    except OSError:
        part.close()
        return False
    return True
