"""The protobuf wire format, for the few small messages of `start` and `delete`.

Those two commands run for every container, and importing the protobuf library would cost more than their work
(docs/performance.md). The pod server uses the generated modules; `tests/unit/contract/test_wire.py` compares the two.
Encoding: https://protobuf.dev/programming-guides/encoding/. Pure.
"""

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not a protobuf message."""


def varint(value: int) -> bytes:
    """Encode a non-negative integer below 2**64."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field_varint(number: int, value: int) -> bytes:
    """Encode an integer field; zero is proto3's default and takes no bytes. Negative values become 64 bits wide."""
    return varint(number << 3 | VARINT) + varint(value & 0xFFFFFFFFFFFFFFFF) if value else b""


def field_bytes(number: int, value: bytes) -> bytes:
    """Encode a string, bytes or message field; an empty one takes no bytes."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value if value else b""


def fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """Split a message into (field number, value) in order of appearance. Raises WireError."""
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        if not number:
            raise WireError("field number 0")
        if kind == VARINT:
            value, at = _read_varint(data, at)
            found.append((number, value))
            continue
        if kind == BYTES:
            size, at = _read_varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"wire type {kind}")
        if at + size > len(data):
            raise WireError("truncated field")
        found.append((number, data[at : at + size]))
        at += size
    return found


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise WireError("truncated varint")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise WireError("varint longer than ten bytes")


def text(message: list[tuple[int, int | bytes]], number: int) -> str:
    """The last value of a string field, or "" (proto3: the last one wins). Raises WireError."""
    value = raw(message, number)
    try:
        return value.decode()
    except UnicodeDecodeError as err:
        raise WireError(f"field {number} is not UTF-8") from err


def raw(message: list[tuple[int, int | bytes]], number: int) -> bytes:
    """The last value of a bytes field, or b"". Raises WireError where the field is a number."""
    for found, value in reversed(message):
        if found == number:
            if isinstance(value, int):
                raise WireError(f"field {number} is not length-delimited")
            return value
    return b""
