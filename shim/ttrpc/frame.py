"""Frames: ten bytes of header and up to 4 MiB of data (ttrpc PROTOCOL.md). Pure; knows no protobuf."""

import struct
from typing import NamedTuple

HEADER = struct.Struct(">IIBB")  # data length, stream id, kind, flags
MAX_DATA = 4 << 20  # as in ttrpc's channel.go: exactly this much is legal

REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN = 0x01, 0x02  # flags


class Frame(NamedTuple):
    """A frame as received. `kind` and `flags` may have any value of a byte."""

    stream_id: int
    kind: int
    flags: int
    data: bytes


class Oversized(NamedTuple):
    """A frame that announced `length` > MAX_DATA bytes; they are dropped as they arrive."""

    stream_id: int
    length: int


def encode(stream_id: int, kind: int, data: bytes, flags: int = 0) -> bytes:
    """The bytes of a frame. The caller keeps `data` within MAX_DATA."""
    return HEADER.pack(len(data), stream_id, kind, flags) + data


class FrameBuffer:
    """Turns bytes, split anywhere, into frames. Holds at most one incomplete frame besides the bytes just fed.

    Deleting the front of a bytearray moves its start and seldom copies: the work is linear in the bytes fed.
    """

    __slots__ = ("_data", "_skip")

    def __init__(self) -> None:
        self._data = bytearray()
        self._skip = 0  # bytes still to come of an oversized frame

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes fed so far end with a frame."""
        return not self._data and not self._skip

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._skip:
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            data = data[dropped:]
        self._data += data

    def next_frame(self) -> Frame | Oversized | None:
        """The next frame; Oversized as soon as its header has arrived; None where more bytes are needed."""
        if len(self._data) < HEADER.size:
            return None
        length, stream_id, kind, flags = HEADER.unpack_from(self._data)
        end = HEADER.size + length
        if length > MAX_DATA:
            self._skip = max(0, end - len(self._data))
            del self._data[:end]
            return Oversized(stream_id, length)
        if len(self._data) < end:
            return None
        with memoryview(self._data) as view:
            data = bytes(view[HEADER.size : end])
        del self._data[:end]
        return Frame(stream_id, kind, flags, data)
