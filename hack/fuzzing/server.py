"""The fuzzed pod server, an installed one with a real OCI runtime, and a client that only counts answers."""

import os
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.requests import Sent
from protos.gen.ttrpc_pb2 import KeyValue, Request
from shim.ttrpc import envelope, frame
from shim.ttrpc.events import CallFailed

HANG_S = 60.0
BUG = "internal error"
"""The text of an error that is a bug of the server (shim/ttrpc/server.py)."""

NOT_FOUND = 5
"""The gRPC code."""

BUGS = 20
"""The most bugs that are printed."""

WINDOW = 64


@dataclass
class Tally:
    """The answers: `codes` counts gRPC codes, 0 is success; `bugs` are requests that hit a bug."""

    answered: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    bugs: list[str] = field(default_factory=list)


class Hang(Exception):
    """A request that was not answered in HANG_S."""


class Connection:
    """One connection to the server at the Unix socket `path`."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._socket.setblocking(False)
        self._buffer = frame.FrameBuffer()
        self._out = bytearray()
        self._pending: dict[int, Sent] = {}
        self._next = 1

    def send_all(self, requests: Sequence[Sent], tally: Tally) -> None:
        """Send `requests`, with up to WINDOW in flight, and read every answer. Raises Hang, ConnectionError."""
        todo = list(reversed(requests))
        last = time.monotonic()
        while todo or self._pending:
            while todo and len(self._pending) < WINDOW and len(self._out) < 1 << 20:
                self._queue(todo.pop())
            readable, writable, _ = select.select([self._socket], [self._socket] if self._out else [], [], 1.0)
            if writable:
                del self._out[: self._socket.send(self._out)]
            if readable and self._receive(tally):
                last = time.monotonic()
            if time.monotonic() - last > HANG_S:
                raise Hang(f"no answer to {list(self._pending.values())[:3]}")

    def leave(self, requests: Sequence[Sent]) -> None:
        """Send `requests`, and disconnect in the middle of the last frame without reading answers."""
        for request in requests:
            self._queue(request)
        self._socket.settimeout(5.0)
        self._socket.sendall(self._out[:-3])
        self._socket.close()

    def close(self) -> None:
        self._socket.close()

    def _queue(self, request: Sent) -> None:
        data = Request(
            service=request.service,
            method=request.method,
            payload=request.payload,
            timeout_nano=request.timeout_ns,
            metadata=[KeyValue(key=key, value=value) for key, value in request.metadata],
        ).SerializeToString()
        self._pending[self._next] = request
        self._out += frame.encode(self._next, frame.REQUEST, data[: frame.MAX_DATA])
        self._next += 2

    def _receive(self, tally: Tally) -> bool:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer.feed(data)
        while (item := self._buffer.next_frame()) is not None:
            assert isinstance(item, frame.Frame), item
            request = self._pending.pop(item.stream_id)
            answer = envelope.decode_response(item.stream_id, item.data)
            code = answer.code if isinstance(answer, CallFailed) else 0
            tally.answered += 1
            tally.codes[code] += 1
            if isinstance(answer, CallFailed) and answer.message == BUG and len(tally.bugs) < BUGS:
                tally.bugs.append(f"{request.service}/{request.method} {request.payload[:300]!r}")
        return True


@dataclass(frozen=True, slots=True)
class Load:
    """What the server holds: descriptors, bytes of private memory, and children.

    Files of cgroups that it keeps open for the next Stats (`runtime.cgroup.kept`) are not counted as descriptors: their
    number is limited, and they are closed at most once a minute, when the server has been idle.
    """

    descriptors: int
    memory: int
    children: int


def load(pid: int) -> Load:
    """The load of process `pid`, from /proc."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty", "Private_Clean"))) << 10
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    files = [_target(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    kept = [file for file in files if file.startswith("/sys/fs/cgroup/")]
    return Load(len(files) - len(kept), own, len(children))


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:  # it has been closed
        return ""
