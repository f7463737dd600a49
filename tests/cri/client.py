"""A client of the CRI (runtime.v1) over containerd's gRPC socket.

One method serves all of it: a request's type name gives the RPC, and the caller names the response type.
"""

from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc
from google.protobuf.message import Message

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
    """Request message name -> the RPC's path, from the services as generated."""
    return {
        method.input_type.name: f"/{service.full_name}/{method.name}"
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


PATHS = _paths()


class Client:
    """A connection to the CRI server at a Unix socket. Close it, or use it in a `with`."""

    def __init__(self, socket: Path) -> None:
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
        path = PATHS[request.DESCRIPTOR.name]
        method = self._channel.unary_unary(
            path, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
        )
        try:
            answer: R = method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            raise CallFailed(path, error.code().name, error.details() or "") from None
        return answer

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
