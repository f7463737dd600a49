"""Binding descriptors to handlers."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.empty_pb2 import Empty

from protos.gen import events_service_pb2, task_pb2, task_v3_pb2
from shim.ttrpc.service import bind, snake_case
from tests.unit.ttrpc.serving import DESCRIPTOR, FakeTask

EVENTS = events_service_pb2.DESCRIPTOR.services_by_name["Events"]


class Forwarder:
    async def forward(self, request: events_service_pb2.ForwardRequest) -> None:
        return None


@pytest.mark.parametrize(
    ("name", "method"),
    [("State", "state"), ("ResizePty", "resize_pty"), ("CloseIO", "close_io"), ("IOClose2Day", "io_close2_day")],
)
def test_handlers_are_named_in_snake_case(name: str, method: str) -> None:
    assert snake_case(name) == method


def test_a_service_has_its_full_name_and_the_methods_of_its_descriptor() -> None:
    service = bind(EVENTS, Forwarder())
    assert service.name == "containerd.services.events.ttrpc.v1.Events"
    assert list(service.methods) == ["Forward"]
    assert service.methods["Forward"].request_type is events_service_pb2.ForwardRequest
    assert service.methods["Forward"].response_type is Empty


def test_one_handler_serves_both_versions_of_the_task_service() -> None:
    handler = FakeTask()
    v2 = bind(DESCRIPTOR, handler)
    v3 = bind(task_v3_pb2.DESCRIPTOR.services_by_name["Task"], handler)
    assert (v2.name, v3.name) == ("containerd.task.v2.Task", "containerd.task.v3.Task")
    assert v2.methods == v3.methods


def test_missing_handlers_are_named() -> None:
    class Half:
        async def state(self, request: object) -> None: ...

    with pytest.raises(TypeError, match=r"Half lacks methods of containerd\.task\.v2\.Task: create, start, .*close_io"):
        bind(DESCRIPTOR, Half())


def test_streaming_methods_cannot_be_bound() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="streaming_test.proto", package="streaming_test", syntax="proto3")
    file.message_type.add(name="M")
    method = file.service.add(name="S").method.add(name="Forward", input_type="M", output_type="M")
    method.server_streaming = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    with pytest.raises(ValueError, match=r"streaming_test\.S\.Forward is streaming"):
        bind(pool.FindServiceByName("streaming_test.S"), Forwarder())


def test_none_stands_for_empty_only() -> None:
    methods = bind(DESCRIPTOR, FakeTask()).methods
    assert methods["Kill"].encode(None) == b""
    assert methods["Kill"].encode(Empty()) == b""
    assert methods["Connect"].encode(task_pb2.ConnectResponse(shim_pid=1)) == b"\x08\x01"
    with pytest.raises(TypeError, match=r"Connect returned NoneType, not containerd\.task\.v2\.ConnectResponse"):
        methods["Connect"].encode(None)
    with pytest.raises(TypeError, match="Connect returned WaitResponse"):
        methods["Connect"].encode(task_pb2.WaitResponse())
