"""Frames against bytes written by hand."""

import pytest

from shim.ttrpc.frame import DATA, HEADER, MAX_DATA, REQUEST, RESPONSE, Frame, FrameBuffer, Oversized, encode
from tests.unit.ttrpc.conftest import Feed


class Frames:
    """A FrameBuffer with the interface of a connection."""

    def __init__(self) -> None:
        self.buffer = FrameBuffer()

    def receive_data(self, data: bytes) -> list[Frame | Oversized]:
        self.buffer.feed(data)
        return list(iter(self.buffer.next_frame, None))


@pytest.mark.parametrize(
    ("wire", "frames"),
    [
        (b"\x00\x00\x00\x02\x00\x00\x00\x01\x01\x00hi", [Frame(1, REQUEST, 0, b"hi")]),
        (b"\x00\x00\x00\x00\x00\x00\x00\x03\x02\x00", [Frame(3, RESPONSE, 0, b"")]),
        (b"\x00\x00\x00\x00\xff\xff\xff\xff\x03\x05", [Frame(0xFFFFFFFF, DATA, 5, b"")]),
        (
            b"\x00\x00\x00\x01\x00\x00\x00\x01\x01\x00a\x00\x00\x00\x01\x00\x00\x00\x03\x01\x00b",
            [Frame(1, REQUEST, 0, b"a"), Frame(3, REQUEST, 0, b"b")],
        ),
    ],
    ids=["request", "empty response", "half close", "two frames"],
)
def test_bytes_are_these_frames_and_back(feed: Feed, wire: bytes, frames: list[Frame]) -> None:
    assert feed(Frames(), wire) == frames
    assert b"".join(encode(f.stream_id, f.kind, f.data, f.flags) for f in frames) == wire


def test_exactly_four_mebibytes_are_legal() -> None:
    data = bytes(MAX_DATA)
    assert Frames().receive_data(encode(1, REQUEST, data)) == [Frame(1, REQUEST, 0, data)]
    assert MAX_DATA == 4194304


def test_an_oversized_frame_is_dropped_and_the_next_one_is_read(feed: Feed) -> None:
    frames = Frames()
    assert frames.receive_data(HEADER.pack(MAX_DATA + 1, 7, REQUEST, 0)) == [Oversized(7, MAX_DATA + 1)]
    for _ in range(4096):
        assert frames.receive_data(bytes(1024)) == []
    assert not frames.buffer.at_boundary
    # one byte of the oversized frame is left
    assert feed(frames, b"\x00" + encode(9, REQUEST, b"x")) == [Frame(9, REQUEST, 0, b"x")]


def test_the_body_of_an_oversized_frame_is_never_kept() -> None:
    buffer = FrameBuffer()
    buffer.feed(HEADER.pack(0xFFFFFFFF, 1, REQUEST, 0) + bytes(100000))
    assert buffer.next_frame() == Oversized(1, 0xFFFFFFFF)
    for _ in range(100):
        buffer.feed(bytes(100000))
    assert len(buffer._data) == 0


def test_an_oversized_frame_that_came_whole_leaves_what_follows() -> None:
    wire = encode(1, REQUEST, bytes(MAX_DATA + 1)) + encode(3, REQUEST, b"x")
    assert Frames().receive_data(wire) == [Oversized(1, MAX_DATA + 1), Frame(3, REQUEST, 0, b"x")]


def test_a_buffer_is_at_a_boundary_only_between_frames() -> None:
    buffer = FrameBuffer()
    assert buffer.at_boundary
    buffer.feed(b"\x00")
    assert not buffer.at_boundary
    buffer.feed(b"\x00\x00\x00\x00\x00\x00\x01\x01\x00")
    assert buffer.next_frame() == Frame(1, REQUEST, 0, b"")
    assert buffer.at_boundary
