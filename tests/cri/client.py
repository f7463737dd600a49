"""A client of containerd's gRPC socket: the CRI (runtime.v1) and containerd's own Tasks and Containers.

One method serves all of it: a request's type gives the RPC, and the caller names the response type.
"""

from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

import grpc
from google.protobuf.message import Message

from tests.cri.gen import containers_pb2, tasks_pb2
from tests.cri.gen import runtime_pb2 as pb

R = TypeVar("R", bound=Message)

MAX_MESSAGE = 16 << 20


class CallFailed(Exception):
    """The server answered with an error: `code` is the gRPC status' name, `message` its text."""

    def __init__(self, rpc: str, code: str, message: str) -> None:
        super().__init__(f"{rpc}: {code}: {message}")
        self.code = code
        self.message = message


def _paths() -> dict[str, str]:
    """Request message's full name -> the RPC's path, from the services as generated."""
    return {
        method.input_type.full_name: f"/{service.full_name}/{method.name}"
        for module in (pb, tasks_pb2, containers_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


PATHS = _paths()


class Client:
    """A connection to the server at a Unix socket. Close it, or use it in a `with`.

    `namespace` is containerd's, for its own services; the CRI needs none.
    """

    def __init__(self, socket: Path, *, namespace: str = "") -> None:
        self._metadata = (("containerd-namespace", namespace),) if namespace else ()
        options = [("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=options)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def call(self, request: Message, response: type[R], *, timeout_s: float = 60.0) -> R:
        """Make the RPC that takes `request`. Raises CallFailed."""
        path = PATHS[request.DESCRIPTOR.full_name]
        method = self._channel.unary_unary(
            path,
            request_serializer=self.serialize,
            response_deserializer=response.FromString,
        )
        try:
            answer: R = method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:  # which is a grpc.Call too, though its stubs do not say so
            call = cast("grpc.Call", error)
            raise CallFailed(path, call.code().name, call.details() or "") from None
        return answer

    def serialize(self, request: Message) -> bytes:
        """The request as it goes over the wire."""
        return request.SerializeToString()

    def ready(self) -> bool:
        """Whether the server answers and its runtime and network are ready."""
        try:
            status = self.call(pb.StatusRequest(), pb.StatusResponse, timeout_s=5).status
        except CallFailed:
            return False
        return bool(status.conditions) and all(
            condition.status for condition in status.conditions if condition.type in ("RuntimeReady", "NetworkReady")
        )

    def has_image(self, name: str) -> bool:
        """Whether CRI knows the image."""
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=name))
        return self.call(request, pb.ImageStatusResponse).HasField("image")
