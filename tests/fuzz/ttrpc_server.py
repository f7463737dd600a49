"""Fuzz target: whatever a client sends, the server core gives requests and refusals, and answers with whole
frames.

`one_input` is what atheris wants: `atheris.Setup(sys.argv, one_input); atheris.Fuzz()`. Without atheris:

    python3 -m tests.fuzz.ttrpc_server [COUNT [SEED]]    runs mutations of real frames
"""

import contextlib
import random
import sys
from collections.abc import Iterator

from shim.ttrpc import frame
from shim.ttrpc.connection import ServerConnection
from shim.ttrpc.errors import ProtocolError
from shim.ttrpc.events import RequestReceived, StreamRefused

CORPUS = (
    # ctr shim state and delete, containerd 1.6.20
    b"\x00\x00\x00%\x00\x00\x00\x01\x01\x00\n\x17containerd.task.v2.Task\x12\x05State\x1a\x03\n\x01x",
    b"\x00\x00\x00!\x00\x00\x00\x03\x01\x00\n\x17containerd.task.v2.Task\x12\x06Delete",
    # a request with a timeout and metadata, as containerd 2.x sends them
    b"\x00\x00\x00\x1d\x00\x00\x00\x05\x01\x00\n\x01s\x12\x01m\x1a\x01p\x20\x80\x94\xeb\xdc\x03*\x0c\n\x05trace\x12\x03abc",
    # a streaming request, and its half close
    b"\x00\x00\x00\x06\x00\x00\x00\x07\x01\x02\n\x01s\x12\x01m\x00\x00\x00\x00\x00\x00\x00\x07\x03\x05",
    # the header of a frame one byte over the limit; one of the limit
    b"\x00\x40\x00\x01\x00\x00\x00\x09\x01\x00",
    b"\x00\x40\x00\x00\x00\x00\x00\x09\x01\x00",
)


def one_input(data: bytes) -> None:
    """Feed `data` in pieces whose size its first byte gives. AssertionError is a finding."""
    server = ServerConnection()
    size = data[0] + 1 if data else 1
    refused: list[int] = []
    answered: list[int] = []
    for at in range(1, len(data), size):
        for event in server.receive_data(data[at : at + size]):
            match event:
                case StreamRefused():
                    refused.append(event.stream_id)
                case RequestReceived():
                    server.send_response(event.stream_id, event.payload)
                    answered.append(event.stream_id)
    assert answered == sorted(set(answered)), "requests are served once each, in increasing order"
    assert sorted(_replies(server.data_to_send())) == sorted(refused + answered), "one reply for each"
    with contextlib.suppress(ProtocolError):
        server.receive_eof()


def _replies(data: bytes) -> Iterator[int]:
    buffer = frame.FrameBuffer()
    buffer.feed(data)
    for item in iter(buffer.next_frame, None):
        assert isinstance(item, frame.Frame), "no reply is oversized"
        assert item.kind == frame.RESPONSE, "a server sends responses only"
        yield item.stream_id
    assert buffer.at_boundary, "replies are whole frames"


def inputs(count: int, seed: int) -> Iterator[bytes]:
    """`count` byte strings: frames of the corpus, joined and mutated, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray([rng.randrange(256)])
        for _ in range(rng.randrange(1, 5)):
            data += rng.choice(CORPUS)
        for _ in range(rng.randrange(6)):
            _mutate(rng, data)
        yield bytes(data)


def _mutate(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    match rng.randrange(4):
        case 0:
            data[at] = rng.randrange(256)
        case 1:
            data[at] ^= 1 << rng.randrange(8)
        case 2:
            data[at:at] = rng.randbytes(rng.randrange(12))
        case _:
            del data[at + 1 : at + rng.randrange(12)]


def main(arguments: list[str]) -> None:
    """Run COUNT inputs (100000) from SEED (0)."""
    count, seed = [*map(int, arguments), *(100_000, 0)[len(arguments) :]]
    for data in inputs(count, seed):
        try:
            one_input(data)
        except Exception:
            print(f"input: {data!r}", file=sys.stderr)
            raise
    print(f"{count} inputs from seed {seed}: no finding")


if __name__ == "__main__":
    main(sys.argv[1:])
