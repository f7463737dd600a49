"""What an init mode is: given facts and choices it answers with steps, and touches nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.spec.edit import Spec, Step

HOME = "/run/pouchrich"
"""The one directory inside a rich container that is ours."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount of the spec as the OCI runtime will make it.

    `destination` is as written, `resolved` where it leads once the image's symbolic links are followed.
    """

    destination: str
    resolved: str
    mount: Any


@dataclass(frozen=True, slots=True)
class Setting:
    """What a mode needs to know. `args` is the command as the pod gave it, `home` where HOME leads to.

    `helpers` is the host directory of the static helper binaries.
    """

    spec: Spec
    args: tuple[str, ...]
    terminal: bool
    mounts: tuple[MountPoint, ...]
    home: str
    helpers: str


@dataclass(frozen=True, slots=True)
class InitMode:
    """`steps(setting)` raises InvalidArgument where the spec leaves no room for the mode."""

    name: str
    steps: Callable[[Setting], tuple[Step, ...]]


def covers(directory: str, path: str) -> bool:
    """Whether `path` is `directory` or below it; both absolute and normal."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")
