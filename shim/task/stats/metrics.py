"""A container's metrics, put together from parts that keep their files."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any

from runtime.cgroup import Cgroup
from runtime.errors import NotFound
from shim.task.stats import v1, v2

if TYPE_CHECKING:
    from shim.task.stats.parts import Part

LOOK_AGAIN_S = 60.0
"""How often to look for files that were missing: a controller may be enabled, or an I/O scheduler loaded, later."""

_GONE = "cgroup does not exist"


class Metrics:
    """The metrics of one container; `cgroup` is None if it was not found. Keeps files open until `close`."""

    def __init__(self, cgroup: Cgroup | None) -> None:
        self._cgroup = cgroup
        self._type_url = v2.TYPE_URL if cgroup is not None and cgroup.unified else v1.TYPE_URL
        self._always = b""
        self._parts: list[Part] = []
        self._looked = -LOOK_AGAIN_S

    def to_any(self) -> Any:
        """The metrics as the kernel has them now; metrics that it does not offer are 0.

        The type URL is the bare message name: containerd looks it up as it is (typeurl), without protobuf's usual
        `type.googleapis.com/` in front. Raises NotFound if the cgroup is gone, Unavailable if no descriptor is left to
        open a file.
        """
        return Any(type_url=self._type_url, value=self._read())

    def _read(self) -> bytes:
        if time.monotonic() < self._looked + LOOK_AGAIN_S:
            with suppress(OSError):  # the cgroup is gone, or one of its controllers
                return self._always + b"".join([part.chunk() for part in self._parts])
        return self._look()

    def _look(self) -> bytes:
        """Find out which files exist, and read them. Raises as `to_any`."""
        self.rest()
        if self._cgroup is None:
            raise NotFound(_GONE)
        unified = self._cgroup.unified
        controllers = dict(self._cgroup.controllers)
        found = v2.parts(unified) if unified else v1.parts(controllers)
        self._always = v2.ALWAYS if unified else v1.always(controllers)
        chunks = []
        for part in found:
            try:
                chunks.append(part.chunk())
            except OSError:  # the part has no file
                part.close()
            else:
                self._parts.append(part)
        if not self._cgroup.exists():  # it may have gone earlier, or while we looked
            self.rest()
            raise NotFound(_GONE)
        self._looked = time.monotonic()
        return self._always + b"".join(chunks)

    def rest(self) -> None:
        """Close all descriptors until the next `to_any`."""
        for part in self._parts:
            part.close()
        self._parts = []
        self._looked = -LOOK_AGAIN_S

    def close(self) -> None:
        """Close all descriptors for good. May be repeated."""
        self.rest()
        self._cgroup = None
