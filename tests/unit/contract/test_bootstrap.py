"""Each dialect that containerd writes to the standard input of `start`."""

import json

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from protos.gen import bootstrap_pb2, runc_options_pb2, runtimeoptions_pb2
from shim.contract import bootstrap


def packed(message: Message, *, prefix: str = "") -> Any:
    return Any(type_url=prefix + message.DESCRIPTOR.full_name, value=message.SerializeToString())


def parse(message: Message | bytes) -> bootstrap.StartInput:
    data = message if isinstance(message, bytes) else message.SerializeToString()
    return bootstrap.parse(data, id="c1", namespace="k8s.io")


def seen(found: bootstrap.StartInput) -> dict[str, object]:
    return {name: value for name in found.__slots__ if (value := getattr(found, name)) and name != "is_params"}


RUNC = runc_options_pb2.Options(shim_cgroup="/pods", binary_name="crun")


def params(**fields: object) -> bootstrap_pb2.BootstrapParams:
    return bootstrap_pb2.BootstrapParams(**{"instance_id": "c1", "namespace": "k8s.io", **fields})


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", {}),
        (packed(RUNC), {"shim_cgroup": "/pods"}),
        (packed(RUNC, prefix="types.googleapis.com/"), {"shim_cgroup": "/pods"}),
        (packed(runc_options_pb2.Options(root="/r")), {}),
        (packed(runtimeoptions_pb2.Options(config_path="/c", config_body=b"x")), {}),
        (params(), {}),
        (
            params(
                containerd_ttrpc_address="/t", containerd_grpc_address="/g", containerd_binary="/c", socket_dir="/s"
            ),
            {"ttrpc_address": "/t", "grpc_address": "/g", "socket_dir": "/s"},
        ),
        (params(extensions=[{"value": packed(RUNC)}]), {"shim_cgroup": "/pods"}),
        (
            params(extensions=[{"value": Any(type_url="other", value=b"\xff")}, {"value": packed(RUNC)}]),
            {"shim_cgroup": "/pods"},
        ),
        (params(log_level=-8), {"debug": True}),
        (params(log_level=-4), {"debug": True}),
        (params(log_level=-3), {}),
        (params(log_level=4), {}),
        (params(log_level=12), {}),
    ],
)
def test_each_dialect_is_understood(data: Message | bytes, expected: dict[str, object]):
    found = parse(data)
    assert seen(found) == expected
    assert found.is_params is isinstance(data, bootstrap_pb2.BootstrapParams)


@pytest.mark.parametrize("other", [{"instance_id": "c2"}, {"namespace": "default"}, {"namespace": ""}])
def test_only_this_containers_ids_make_it_bootstrap_params(other: dict[str, str]):
    # What an Any of some other type looks like, seen as BootstrapParams.
    found = parse(params(socket_dir="/s", containerd_ttrpc_address="/t", log_level=-4, **other))
    assert (seen(found), found.is_params) == ({}, False)


@pytest.mark.parametrize("data", [b"{}", b"\x0a", b"garbage", b"unix:///x", b"\x00"])
def test_garbage_is_a_value_error(data: bytes):
    with pytest.raises(ValueError, match=r"."):
        parse(data)


@given(st.binary(max_size=80))
def test_any_bytes_give_an_answer_or_a_value_error(data: bytes):
    try:
        found = parse(data)
    except ValueError:
        return
    assert isinstance(found.shim_cgroup, str)


@pytest.mark.parametrize("path", ["relative", "/" + "x" * 42])
def test_a_socket_dir_that_cannot_hold_a_socket_is_refused(path: str):
    with pytest.raises(ValueError, match="socket_dir: found"):
        parse(params(socket_dir=path))


def test_the_longest_socket_dir_leaves_room_for_a_socket():
    directory = parse(params(socket_dir="/" + "x" * 41)).socket_dir
    assert len(f"{directory}/{'0' * 64}") <= 107


def test_an_answer_of_version_2_is_the_address_alone():
    assert bootstrap.start_answer("unix:///s", version=2) == "unix:///s"


def test_an_answer_of_version_3_is_json():
    answer = json.loads(bootstrap.start_answer("unix:///run/a b/s", version=3))
    assert answer == {"version": 3, "address": "unix:///run/a b/s", "protocol": "ttrpc"}


@pytest.mark.parametrize("name", ['"', "\\", "\n", "\x7f", "\u00e9", "\udcff"])
def test_an_address_that_json_would_have_to_escape_is_answered_alone(name: str):
    assert bootstrap.start_answer(f"unix:///run/{name}/s", version=3) == f"unix:///run/{name}/s"
