"""Changing the OCI spec of a container that has been created and not started, as no client of containerd's can.

containerd hands a shim the spec that its own records have when the task is made: in the CRI, at StartContainer.
"""

import json
from collections.abc import Callable
from typing import Any

from google.protobuf import any_pb2, field_mask_pb2

from tests.cri.client import Client
from tests.cri.gen import containers_pb2 as pb
from tests.integration.node import Node


def edit(node: Node, container: str, change: Callable[[dict[str, Any]], None], *, namespace: str = "k8s.io") -> None:
    """Have `change` alter the spec in place."""

    def changed(text: bytes) -> bytes:
        spec = json.loads(text)
        change(spec)
        return json.dumps(spec).encode()

    edit_text(node, container, changed, namespace=namespace)


def edit_text(node: Node, container: str, change: Callable[[bytes], bytes], *, namespace: str = "k8s.io") -> None:
    """Replace the JSON of the spec, which containerd does not look at again."""
    with Client(node.socket, namespace=namespace) as client:
        found = client.call(pb.GetContainerRequest(id=container), pb.GetContainerResponse).container.spec
        spec = any_pb2.Any(type_url=found.type_url, value=change(found.value))
        request = pb.UpdateContainerRequest(
            container=pb.Container(id=container, spec=spec), update_mask=field_mask_pb2.FieldMask(paths=["spec"])
        )
        client.call(request, pb.UpdateContainerResponse)


def in_bundle(node: Node, container: str, *, namespace: str = "k8s.io") -> dict[str, Any]:
    """The config.json that the OCI runtime was given."""
    found: dict[str, Any] = json.loads((node.bundle_of(container, namespace=namespace) / "config.json").read_bytes())
    return found
