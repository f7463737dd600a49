"""Which container a rich lifecycle is about, and what it runs programs with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.oci.cli import OCIRuntime, Run
from runtime.spec import ids
from shim.task.reaper import Reaper


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """The container: containerd's id and namespace, host paths of bundle and root, and containerd's own spec, except
    that `process.apparmorProfile` is the profile that the container really has.
    """

    id: str
    namespace: str
    bundle: str
    root: str
    spec: dict[str, Any]

    @property
    def annotations(self) -> Mapping[str, str]:
        """The spec's annotations."""
        return self.spec.get("annotations") or {}

    @property
    def root_ids(self) -> tuple[int, int]:
        """The host uid and gid of the container's root."""
        return ids.host_uid(self.spec, 0), ids.host_gid(self.spec, 0)

    @property
    def user_ids(self) -> tuple[int, int]:
        """The host uid and gid of the container's user."""
        user = (self.spec.get("process") or {}).get("user") or {}
        return ids.host_uid(self.spec, int(user.get("uid", 0))), ids.host_gid(self.spec, int(user.get("gid", 0)))


class ContainerTools(NamedTuple):
    """What programs are run with."""

    oci: OCIRuntime
    run: Run
    reaper: Reaper
