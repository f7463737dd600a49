"""Stats: a cgroup's metrics as the message that containerd and CRI decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any

from protos.gen import cgroups_v1_pb2, cgroups_v2_pb2
from runtime import cgroup

if TYPE_CHECKING:
    from runtime.cgroup import Cgroup


def to_any(group: Cgroup) -> Any:
    """The current metrics of `group`.

    The type URL is the bare message name: containerd looks it up as it is (typeurl), without protobuf's usual
    `type.googleapis.com/` in front. Raises NotFound if the cgroup is gone.
    """
    fields = cgroup.metrics(group)
    message = cgroups_v2_pb2.Metrics(**fields) if group.unified else cgroups_v1_pb2.Metrics(**fields)
    return Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())
