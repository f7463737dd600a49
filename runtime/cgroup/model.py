"""Where a container's cgroup is: one directory on the unified hierarchy, or one a controller on v1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# Any hierarchy holds all processes; these are the ones that every runtime puts a container into.
_PREFERRED = ("memory", "pids", "cpu", "devices", "freezer")


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Absolute directories. Exactly one of the fields is set.

    `controllers` are pairs of a v1 controller (`memory`; `name=systemd` for a named hierarchy) and its
    directory.
    """

    unified: str = ""
    controllers: tuple[tuple[str, str], ...] = ()

    def directory(self, controller: str) -> str:
        """Where `controller` is; "" where it is not. On the unified hierarchy all are in one place."""
        return self.unified or dict(self.controllers).get(controller, "")

    @property
    def main(self) -> str:
        """The one directory to ask what concerns no controller."""
        found = dict(self.controllers)
        others = (path for _, path in self.controllers)
        return self.unified or next((found[name] for name in _PREFERRED if name in found), next(others, ""))

    def exists(self) -> bool:
        """Whether it is still there."""
        return os.path.isdir(self.main)

    def is_left(self) -> bool:
        """Whether any of its directories is there; those of hierarchies into which it was not put are not its."""
        name = os.path.basename(self.main)
        directories = [self.unified, *(path for _, path in self.controllers)]
        return any(os.path.basename(path) == name and os.path.isdir(path) for path in directories if path)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"unified": self.unified, "controllers": dict(self.controllers)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Cgroup:
        """The inverse of `to_dict`."""
        return cls(unified=value["unified"], controllers=tuple(value["controllers"].items()))
