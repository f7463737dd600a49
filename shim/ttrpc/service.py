"""Services: methods of a protobuf service descriptor bound to the methods of a handler object."""

import inspect
import re
from collections.abc import Awaitable, Callable
from functools import cache
from typing import NamedTuple

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Method(NamedTuple):
    """One RPC: the handler's method, and its request and response types. `waits`: the method is `async def`."""

    name: str
    call: Callable[[Message], Awaitable[Message | None]] | Callable[[Message], Message | None]
    request_type: type[Message]
    response_type: type[Message]
    waits: bool = True

    def decode(self, payload: bytes) -> Message:
        """The request message. Raises google.protobuf.message.DecodeError."""
        return self.request_type.FromString(payload)

    def encode(self, response: Message | None) -> bytes:
        """The response's bytes. None means Empty. Raises TypeError for another type than the method's."""
        if response is None and self.response_type is Empty:
            return b""
        if not isinstance(response, self.response_type):
            wanted = self.response_type.DESCRIPTOR.full_name
            raise TypeError(f"{self.name} returned {type(response).__name__}, not {wanted}")
        return response.SerializeToString()


class Service(NamedTuple):
    """A full service name and its methods, by their names on the wire."""

    name: str
    methods: dict[str, Method]


def bind(descriptor: ServiceDescriptor, handler: object) -> Service:
    """Bind every method of `descriptor` to the method of `handler` of the same name in snake_case.

    A handler method is `async def resize_pty(self, request) -> response | None`; None only where the
    response is google.protobuf.Empty. A method that never waits is a plain `def`: its requests need no task, and
    have no deadline. Raises TypeError naming all methods that `handler` lacks, and ValueError for a streaming method.
    """
    missing = [m.name for m in descriptor.methods if not callable(getattr(handler, snake_case(m.name), None))]
    if missing:
        wanted = ", ".join(snake_case(name) for name in missing)
        raise TypeError(f"{type(handler).__name__} lacks methods of {descriptor.full_name}: {wanted}")
    return Service(descriptor.full_name, {method.name: _bind_method(method, handler) for method in descriptor.methods})


@cache
def snake_case(name: str) -> str:
    """The handler's name for an RPC: `ResizePty` is `resize_pty`, `CloseIO` is `close_io`."""
    return _WORD_START.sub("_", name).lower()


def _bind_method(method: MethodDescriptor, handler: object) -> Method:
    if method.client_streaming or method.server_streaming:
        raise ValueError(f"{method.full_name} is streaming; only unary methods can be served")
    call = getattr(handler, snake_case(method.name))
    return Method(
        method.name,
        call,
        GetMessageClass(method.input_type),
        GetMessageClass(method.output_type),
        inspect.iscoroutinefunction(call),
    )
