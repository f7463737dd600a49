"""Whom the life of a rich container is about, and what it is lived with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.oci.cli import OCIRuntime, Run
from shim.task.reaper import Reaper


@dataclass(frozen=True, slots=True)
class Subject:
    """The container: containerd's id and namespace, host paths of bundle and root, and containerd's own spec, but that
    `process.apparmorProfile` is the profile that the container has.
    """

    id: str
    namespace: str
    bundle: str
    root: str
    spec: dict[str, Any]

    @property
    def annotations(self) -> Mapping[str, str]:
        """The spec's."""
        return self.spec.get("annotations") or {}


@dataclass(frozen=True, slots=True)
class Tools:
    """What programs are run with."""

    oci: OCIRuntime
    run: Run
    reaper: Reaper
