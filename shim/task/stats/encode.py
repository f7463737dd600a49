"""Encodes the text of a cgroup's file as fields of a metrics message. Pure.

Each function that is named after a file format (kernel, Documentation/admin-guide/cgroup-v2.rst, "Interface Files")
returns an `Encode`, whose result is a complete part of the message, or b"" where the text does not have the format.
A decoder merges the parts of a submessage, and repeated fields may follow each other
(https://protobuf.dev/programming-guides/encoding/#last-one-wins), so the whole message is the parts joined together.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from shim.contract.wire import BYTES, FIXED64, VARINT, varint

Encode = Callable[[bytes], bytes]

_SMALL = tuple(map(varint, range(256)))
_ALL_BITS = (1 << 64) - 1
_DOUBLE = struct.Struct("<d")
_KINDS = {
    FieldDescriptor.TYPE_UINT64: VARINT,
    FieldDescriptor.TYPE_UINT32: VARINT,
    FieldDescriptor.TYPE_DOUBLE: FIXED64,
    FieldDescriptor.TYPE_STRING: BYTES,
    FieldDescriptor.TYPE_MESSAGE: BYTES,
}


class MessageType:
    """The fields of a message type, by name. `descriptor` is protobuf's; `path` leads to it from the outermost one."""

    def __init__(self, descriptor: Any, path: tuple[bytes, ...] = ()) -> None:
        self._fields = descriptor.fields_by_name
        self._path = path

    def tag(self, field: str, *, packed: bool = False) -> bytes:
        """The tag before the field's value, or with `packed` before all values of a repeated numeric field."""
        found = self._fields[field]
        return varint(found.number << 3 | (BYTES if packed else _KINDS[found.type]))

    def tags(self, names: Mapping[str, str] | Iterable[str]) -> dict[bytes, bytes]:
        """Key of a file -> tag. `names` maps keys to fields, or lists keys that equal the fields' names."""
        pairs = names.items() if isinstance(names, Mapping) else ((name, name) for name in names)
        return {key.encode(): self.tag(field) for key, field in pairs}

    def within(self, field: str) -> "MessageType":
        """The type of the submessage `field`."""
        return MessageType(self._fields[field].message_type, (*self._path, self.tag(field)))

    def wrap(self, inner: bytes) -> bytes:
        """The encoded fields `inner` of this message, wrapped as a part of the outermost message."""
        for tag in reversed(self._path):
            inner = tag + unsigned(len(inner)) + inner
        return inner


def unsigned(value: int) -> bytes:
    """The lowest 64 bits of `value` as a varint."""
    return _SMALL[value] if value < 256 else varint(value & _ALL_BITS)


def _number(tag: bytes, value: int) -> bytes:
    return tag + unsigned(value) if value else b""  # 0 is the default, which is not encoded


def _double(tag: bytes, word: bytes) -> bytes:
    value = float(word) if word.replace(b".", b"", 1).isdigit() else 0.0
    return tag + _DOUBLE.pack(value) if value else b""


def _bytes(tag: bytes, value: bytes) -> bytes:
    return tag + unsigned(len(value)) + value if value else b""


def text(message: MessageType, field: str, value: bytes) -> bytes:
    """A string field."""
    return _bytes(message.tag(field), _utf8(value))


def _utf8(word: bytes) -> bytes:
    return word if word.isascii() else word.decode(errors="replace").encode()


def number(message: MessageType, field: str, maximum: int = 0) -> Encode:
    """A single number, as of a counter or limit; the word `max` means `maximum`."""
    tag = message.tag(field)

    def encode(text: bytes) -> bytes:
        value = _value(text.strip(), maximum)
        return b"" if value is None else message.wrap(_number(tag, value))

    return encode


def _value(word: bytes, maximum: int) -> int | None:
    if word == b"max":
        return maximum
    return int(word) if word.isdigit() else None


def keyed(message: MessageType, names: Mapping[str, str] | Iterable[str], factor: int = 1) -> Encode:
    """`KEY NUMBER` lines: for each key in `names` (see `MessageType.tags`), `factor` times the number."""
    tags = message.tags(names)

    def encode(text: bytes) -> bytes:
        found = []
        for line in text.splitlines():
            key, _, word = line.partition(b" ")
            if (tag := tags.get(key)) and word.isdigit():
                found.append(_number(tag, int(word) * factor))
        return message.wrap(b"".join(found)) if found else b""

    return encode


def numbers(message: MessageType, field: str) -> Encode:
    """Numbers separated by blanks, as a repeated field."""
    tag = message.tag(field, packed=True)

    def encode(text: bytes) -> bytes:
        found = [unsigned(int(word)) for word in text.split() if word.isdigit()]
        return message.wrap(_bytes(tag, b"".join(found))) if found else b""

    return encode


def pressure(message: MessageType) -> Encode:
    """`some avg10=0.12 avg60=0.00 avg300=0.00 total=34` and the same for `full` (accounting/psi.rst)."""
    inner = {kind.encode(): message.within(kind) for kind in ("some", "full")}
    averages = inner[b"some"].tags(("avg10", "avg60", "avg300"))
    totals = inner[b"some"].tags(("total",))

    def encode(text: bytes) -> bytes:
        parts = []
        for kind, values in _nested(text):
            if kind in inner:
                found = [_double(tag, values.get(key, b"")) for key, tag in averages.items()]
                found += [_number(tag, _value(values.get(key, b""), 0) or 0) for key, tag in totals.items()]
                parts.append(inner[kind].wrap(b"".join(found)))
        return b"".join(parts)

    return encode


def _nested(text: bytes) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
    """The lines of a nested keyed file, `KEY NAME=VALUE...`."""
    for line in text.splitlines():
        key, *pairs = line.split() or [b""]
        yield key, {name: value for name, _, value in (pair.partition(b"=") for pair in pairs)}


def rdma(message: MessageType) -> Encode:
    """`DEVICE hca_handle=1 hca_object=2`, one line per device, as a repeated field; the word `max` means 2^32-1."""
    device, tags = message.tag("device"), message.tags({"hca_handle": "hca_handles", "hca_object": "hca_objects"})

    def encode(text: bytes) -> bytes:
        parts = []
        for key, values in _nested(text):
            words = ((tag, _value(values.get(name, b""), (1 << 32) - 1)) for name, tag in tags.items())
            found = [_number(tag, value) for tag, value in words if value is not None]
            parts.append(message.wrap(_bytes(device, _utf8(key)) + b"".join(found)))
        return b"".join(parts)

    return encode


def io(message: MessageType) -> Encode:
    """`8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`, one line per device, as a repeated field."""
    major, minor = message.tag("major"), message.tag("minor")
    tags = message.tags(("rbytes", "wbytes", "rios", "wios"))

    def encode(text: bytes) -> bytes:
        parts = []
        for key, values in _nested(text):
            numbers = _device(key)
            if numbers is not None:
                found = [
                    _number(tag, int(values[name])) for name, tag in tags.items() if values.get(name, b"").isdigit()
                ]
                parts.append(message.wrap(_number(major, numbers[0]) + _number(minor, numbers[1]) + b"".join(found)))
        return b"".join(parts)

    return encode


def blkio(message: MessageType, name: Callable[[int, int], bytes]) -> Encode:
    """`8:0 Read 4096`, or without an operation `8:0 77`, as a repeated field; the total of all devices is left out.

    `name` returns a block device's name for its major and minor number (cgroup-v1/blkio-controller.rst).
    """
    tags = [message.tag(field) for field in ("op", "device", "major", "minor", "value")]

    def encode(text: bytes) -> bytes:
        parts = []
        for line in text.splitlines():
            key, *rest = line.split() or [b""]
            numbers = _device(key)
            if numbers is not None and len(rest) in (1, 2) and rest[-1].isdigit():
                values = (*numbers, int(rest[-1]))
                found = [_bytes(tags[0], _utf8(rest[0]) if len(rest) == 2 else b""), _bytes(tags[1], name(*numbers))]
                found += [_number(tag, value) for tag, value in zip(tags[2:], values, strict=True)]
                parts.append(message.wrap(b"".join(found)))
        return b"".join(parts)

    return encode


def _device(word: bytes) -> tuple[int, int] | None:
    """`8:0` as major and minor number."""
    major, _, minor = word.partition(b":")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
