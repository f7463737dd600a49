"""Where a container's cgroup is: one directory on the unified hierarchy, or one per controller on v1."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

# Every hierarchy holds all processes; into these every OCI runtime puts a container.
_PREFERRED = ("memory", "pids", "cpu", "devices", "freezer")


class Cgroup(NamedTuple):
    """Absolute directories. Exactly one of the fields is set.

    `controllers` has pairs of a v1 controller (`memory`; `name=systemd` for a named hierarchy) and its directory.
    """

    unified: str = ""
    controllers: tuple[tuple[str, str], ...] = ()

    def directory(self, controller: str) -> str:
        """The directory of `controller`, or "". On the unified hierarchy all controllers share one directory."""
        return self.unified or dict(self.controllers).get(controller, "")

    @property
    def main(self) -> str:
        """The directory to read what belongs to no controller."""
        found = dict(self.controllers)
        others = (path for _, path in self.controllers)
        return self.unified or next((found[name] for name in _PREFERRED if name in found), next(others, ""))

    def exists(self) -> bool:
        """Whether the main directory still exists."""
        return os.path.isdir(self.main)

    def is_left(self) -> bool:
        """Whether any of the cgroup's directories exists, without those of hierarchies that it was not put into."""
        name = os.path.basename(self.main)
        directories = [self.unified, *(path for _, path in self.controllers)]
        return any(os.path.basename(path) == name and os.path.isdir(path) for path in directories if path)

    def to_dict(self) -> dict[str, Any]:
        """The cgroup as a JSON object."""
        return {"unified": self.unified, "controllers": dict(self.controllers)}
