"""Exec and attach streams: a WebSocket client (RFC 6455) for the subprotocol `v4.channel.k8s.io`.

Each binary message begins with a channel number: 0 stdin, 1 stdout, 2 stderr, 3 the final status as JSON,
4 the terminal's size as JSON ({"Width", "Height"}). It cannot close stdin alone; v5 can, but containerd 2.1 does
not speak it yet. Kubernetes uses SPDY here by default; containerd 1.6 to 2.x serve both.
"""

import base64
import json
import os
import socket
import struct
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

STDIN, STDOUT, STDERR, STATUS, RESIZE = 0, 1, 2, 3, 4
CONTINUATION, BINARY, CLOSING, PING, PONG = 0, 2, 8, 9, 10


class Stream:
    """An open exec or attach. `output` collects what each of stdout and stderr carried."""

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        """Connect to the URL that Exec or Attach returned. Raises ConnectionError when refused."""
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=timeout_s)
        self._pending = bytearray()
        self.output: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray()}
        self.status: dict[str, Any] | None = None
        key = base64.b64encode(os.urandom(16)).decode()
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        head = (
            f"GET {target} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Protocol: v4.channel.k8s.io",
        )
        self._socket.sendall("\r\n".join([*head, "", ""]).encode())
        self._await_upgrade()

    def _await_upgrade(self) -> None:
        while b"\r\n\r\n" not in self._pending:
            self._fill()
        head, _, rest = bytes(self._pending).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            self._socket.close()
            raise ConnectionError(head.decode(errors="replace"))
        self._pending = bytearray(rest)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _fill(self) -> None:
        chunk = self._socket.recv(1 << 16)
        if not chunk:
            raise EOFError("the server closed the stream")
        self._pending += chunk

    def _take(self, count: int) -> bytes:
        while len(self._pending) < count:
            self._fill()
        taken = bytes(self._pending[:count])
        del self._pending[:count]
        return taken

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size])
        masked = (int.from_bytes(payload) ^ key).to_bytes(size)
        self._socket.sendall(head + mask + masked)

    def _receive_frame(self) -> tuple[int, bytes]:
        first, second = self._take(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        return first & 0x0F, self._take(size)

    def write(self, data: bytes) -> None:
        """Send bytes to the process's stdin."""
        for start in range(0, len(data), 1 << 15):
            self._send_frame(BINARY, bytes([STDIN]) + data[start : start + (1 << 15)])

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size, in characters."""
        self._send_frame(BINARY, bytes([RESIZE]) + json.dumps({"Width": width, "Height": height}).encode())

    def step(self) -> bool:
        """Take one message; False once the stream is over."""
        try:
            opcode, payload = self._receive_frame()
        except (EOFError, ConnectionResetError):
            return False
        if opcode == CLOSING:
            return False
        if opcode == PING:
            self._send_frame(PONG, payload)
        elif opcode in (BINARY, CONTINUATION, 1) and len(payload) > 1:
            if payload[0] == STATUS:
                self.status = json.loads(payload[1:])
            elif payload[0] in self.output:
                self.output[payload[0]] += payload[1:]
        return True

    def read_until(self, text: bytes, channel: int = STDOUT) -> bytes:
        """What `channel` carried so far, once that has `text`. Raises AssertionError at an earlier end."""
        while text not in self.output[channel]:
            if not self.step():
                raise AssertionError(f"{text!r} not in {bytes(self.output[channel][-2000:])!r}")
        return bytes(self.output[channel])

    def read_all(self) -> bytes:
        """Take everything up to the end, and return all of stdout."""
        while self.step():
            pass
        return bytes(self.output[STDOUT])

    def exit_code(self) -> int:
        """The process's exit code from the final status. Call after read_all."""
        assert self.status is not None, "the stream ended without a status"
        if self.status["status"] == "Success":
            return 0
        causes = self.status.get("details", {}).get("causes", [])
        codes = [int(cause["message"]) for cause in causes if cause["reason"] == "ExitCode"]
        assert codes, f"no exit code in {self.status}"
        return codes[0]
