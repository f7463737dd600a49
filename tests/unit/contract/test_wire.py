"""Our few lines of protobuf against the protobuf library, both ways."""

import pytest
from google.protobuf.any_pb2 import Any
from hypothesis import given
from hypothesis import strategies as st

from protos.gen import bootstrap_pb2, task_pb2
from shim.contract import bootstrap, wire

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(texts, texts, st.integers(-(1 << 31), (1 << 31) - 1), st.lists(st.binary(max_size=20), max_size=3))
def test_what_the_library_writes_we_read(instance: str, socket_dir: str, level: int, values: list[bytes]):
    message = bootstrap_pb2.BootstrapParams(instance_id=instance, socket_dir=socket_dir, log_level=level)
    for value in values:
        message.extensions.add().value.CopyFrom(Any(type_url="t", value=value))
    read = wire.fields(message.SerializeToString())
    assert wire.text(read, 1) == instance
    assert wire.text(read, 9) == socket_dir
    assert [value for number, value in read if number == 3] == ([level % (1 << 64)] if level else [])
    inner = [wire.fields(wire.raw(wire.fields(value), 1)) for number, value in read if number == 8]
    assert [wire.raw(any_, 2) for any_ in inner] == values


@given(
    st.integers(0, (1 << 32) - 1),
    st.integers(0, (1 << 32) - 1),
    st.integers(0, 253402300799),
    st.integers(0, 999_999_999),
)
def test_what_we_write_the_library_reads(pid: int, status: int, seconds: int, nanos: int):
    read = task_pb2.DeleteResponse.FromString(bootstrap.delete_response(pid, status, seconds, nanos))
    assert (read.pid, read.exit_status) == (pid, status)
    assert (read.exited_at.seconds, read.exited_at.nanos) == (seconds, nanos)


@given(st.binary(max_size=60))
def test_any_bytes_give_fields_or_a_wire_error(data: bytes):
    try:
        read = wire.fields(data)
    except wire.WireError:
        return
    assert all(number > 0 and isinstance(value, int | bytes) for number, value in read)
    for number in {number for number, _ in read}:
        try:
            assert isinstance(wire.text(read, number), str)
        except wire.WireError:
            continue


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x0a", "truncated varint"),
        (b"\x0a\x05abc", "truncated field"),
        (b"\x0d\x01", "truncated field"),
        (b"\x02\x00", "field number 0"),
        (b"\x0b", "wire type 3"),
        (b"\x08" + b"\xff" * 10, "varint longer than ten bytes"),
    ],
)
def test_garbage_is_named(data: bytes, text: str):
    with pytest.raises(wire.WireError, match=text):
        wire.fields(data)


def test_the_last_of_a_fields_values_wins_and_kinds_are_not_mixed_up():
    data = wire.field_bytes(1, b"a") + wire.field_bytes(1, b"b") + wire.field_varint(2, 7)
    read = wire.fields(data)
    assert wire.text(read, 1) == "b"
    assert wire.raw(read, 3) == b""
    with pytest.raises(wire.WireError, match="field 2 is not length-delimited"):
        wire.raw(read, 2)
    with pytest.raises(wire.WireError, match="field 1 is not UTF-8"):
        wire.text([(1, b"\xff")], 1)


def test_a_negative_number_is_ten_bytes_as_the_library_writes_it():
    params = bootstrap_pb2.BootstrapParams(log_level=-8)
    assert wire.field_varint(3, -8) == params.SerializeToString()
