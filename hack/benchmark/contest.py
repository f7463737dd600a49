"""A shim under measurement, driven as containerd drives it: its executable, then its Task service.

This process does the same work for every shim: the same client, the same requests, the same receiver of events.
"""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from benchmark.place import Bundle
from protos.gen import events_service_pb2, runc_options_pb2, task_pb2
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.errors import TtrpcError
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind

TASK_SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")
NAMESPACE = "bench"
EVENTS_SOCKET = "/run/bench/events.sock"
ADDRESS = "/run/bench/containerd.sock"

_spawning = threading.Lock()  # the working directory belongs to the whole process


class _Events:
    async def forward(self, request: Message) -> None:
        """Receive an event and drop it."""


async def receive_events() -> TtrpcServer:
    """Stand in for containerd's receiver of events."""
    server = TtrpcServer(
        [bind(events_service_pb2.DESCRIPTOR.services_by_name["Events"], _Events())], status_of=lambda _: None
    )
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(EVENTS_SOCKET)
    sock.listen(512)
    await server.start(sock)
    return server


@dataclass(frozen=True, slots=True)
class Shim:
    """`name` is its name in the report; with `rich` the configuration decides about the container."""

    name: str
    path: str
    oci: str
    rich: bool = False
    env: tuple[tuple[str, str], ...] = ()

    @property
    def is_ours(self) -> bool:
        return "pouchrich" in os.path.basename(self.path)

    def options(self) -> bytes:
        """The options that containerd writes to `start` and sends with Create: runc's options, with the OCI runtime."""
        value = runc_options_pb2.Options(binary_name=self.oci, root="/run/bench/runc").SerializeToString()
        return _any("containerd.runc.v1.Options", value)

    def command(self, bundle: Bundle, *words: str, stdin: bytes = b"") -> tuple[bytes, float]:
        """Run the executable in the bundle; return its output, and the seconds until containerd would continue.

        containerd continues when the pipe is closed and the process is gone. Blocks. Raises RuntimeError.
        """
        began = time.perf_counter()
        output_read, output_write = os.pipe2(os.O_CLOEXEC)
        input_fd = os.memfd_create("stdin")
        os.write(input_fd, stdin)
        os.lseek(input_fd, 0, os.SEEK_SET)
        flags = ["-namespace", NAMESPACE, "-address", ADDRESS, "-publish-binary", "/usr/bin/containerd"]
        argv = [self.path, *flags, "-id", bundle.id, *words]
        pid = _spawn(argv, str(bundle.path), input_fd, output_write, self._environment())
        os.close(output_write)
        os.close(input_fd)
        output = b"".join(iter(lambda: os.read(output_read, 65536), b""))
        os.close(output_read)
        _, status = os.waitpid(pid, 0)
        took = time.perf_counter() - began
        if status:
            raise RuntimeError(f"{self.name} {words[-1]}: status {status}: {output.decode(errors='replace')}")
        return output, took

    def _environment(self) -> dict[str, str]:
        given = {"PATH": os.environ["PATH"], "TTRPC_ADDRESS": EVENTS_SOCKET, "GRPC_ADDRESS": ADDRESS}
        return {**given, "GOMAXPROCS": "2", "NAMESPACE": NAMESPACE, "MAX_SHIM_VERSION": "2", **dict(self.env)}

    def start(self, bundle: Bundle) -> tuple[str, float]:
        """Run `start`; return the printed address, and the seconds it took."""
        output, took = self.command(bundle, "start", stdin=self.options())
        answer = output.decode().strip()
        return (json.loads(answer)["address"] if answer.startswith("{") else answer), took  # JSON: containerd 2.x's

    def delete(self, bundle: Bundle) -> float:
        """Run `delete`; return the seconds it took."""
        return self.command(bundle, "-bundle", str(bundle.path), "delete")[1]


def _spawn(argv: Sequence[str], directory: str, stdin: int, output: int, env: dict[str, str]) -> int:
    """Start a process in `directory`, in a process group of its own as containerd does."""
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    with _spawning:
        os.chdir(directory)
        try:
            return os.posix_spawn(argv[0], argv, env, file_actions=actions, setpgroup=0)
        finally:
            os.chdir("/")


class Task:
    """One container of a running shim."""

    def __init__(self, shim: Shim, bundle: Bundle, client: TtrpcClient) -> None:
        self.shim = shim
        self.bundle = bundle
        self._client = client
        # containerd 2.x's own shim serves the third version only; the messages are the same.
        self._service = TASK_SERVICES["2." in shim.name]

    @classmethod
    async def connect(cls, shim: Shim, bundle: Bundle, address: str) -> "Task":
        return cls(shim, bundle, await TtrpcClient.connect(address))

    async def call(self, method: str, request: Message, response: type[Any]) -> Any:
        """One RPC."""
        return await self._client.call(self._service, method, request, response, timeout_s=60)

    async def create(self, *, stdout: str = "", stderr: str = "") -> int:
        request = task_pb2.CreateTaskRequest(id=self.bundle.id, bundle=str(self.bundle.path), stdout=stdout)
        request.stderr = stderr
        request.rootfs.add(type="overlay", source="overlay", options=self.bundle.overlay_options)
        request.options.ParseFromString(self.shim.options())
        return int((await self.call("Create", request, task_pb2.CreateTaskResponse)).pid)

    async def start(self, exec_id: str = "") -> None:
        await self.call("Start", task_pb2.StartRequest(id=self.bundle.id, exec_id=exec_id), task_pb2.StartResponse)

    async def wait(self, exec_id: str = "") -> int:
        request = task_pb2.WaitRequest(id=self.bundle.id, exec_id=exec_id)
        return int((await self.call("Wait", request, task_pb2.WaitResponse)).exit_status)

    async def delete(self, exec_id: str = "") -> None:
        await self.call("Delete", task_pb2.DeleteRequest(id=self.bundle.id, exec_id=exec_id), task_pb2.DeleteResponse)

    async def kill(self) -> None:
        await self.call("Kill", task_pb2.KillRequest(id=self.bundle.id, signal=9, all=True), _empty())

    async def exec(self, exec_id: str, args: list[str]) -> None:
        process = b'{"args":["%s"],"cwd":"/","env":["PATH=/bin"],"user":{"uid":0,"gid":0}}' % '","'.join(args).encode()
        request = task_pb2.ExecProcessRequest(id=self.bundle.id, exec_id=exec_id)
        request.spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process"
        request.spec.value = process
        await self.call("Exec", request, _empty())

    async def stats(self) -> bytes:
        """The container's metrics, encoded."""
        request = task_pb2.StatsRequest(id=self.bundle.id)
        return bytes((await self.call("Stats", request, task_pb2.StatsResponse)).stats.value)

    async def shim_pid(self) -> int:
        request = task_pb2.ConnectRequest(id=self.bundle.id)
        return int((await self.call("Connect", request, task_pb2.ConnectResponse)).shim_pid)

    async def shutdown(self) -> None:
        """Shutdown, and close; a shim may be gone before it has answered."""
        with suppress(TtrpcError, OSError):
            await self.call("Shutdown", task_pb2.ShutdownRequest(id=self.bundle.id), _empty())
        self._client.close()

    async def end(self) -> None:
        """Kill the container and remove everything, the way containerd does."""
        await self.kill()
        await self.wait()
        await self.delete()
        await self.shutdown()
        await asyncio.to_thread(self.shim.delete, self.bundle)
        self.bundle.remove()


def _empty() -> type[Message]:
    from google.protobuf.empty_pb2 import Empty

    return Empty


def _any(type_url: str, value: bytes) -> bytes:
    from google.protobuf.any_pb2 import Any as Packed

    return Packed(type_url=type_url, value=value).SerializeToString()


def cpu_seconds(pid: int) -> float:
    """The CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
