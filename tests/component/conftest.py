"""A pod server in a process of its own, with a fake OCI runtime below it and a fake containerd above."""

import asyncio
import gc
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from protos.gen import events_pb2, events_service_pb2, runtimeoptions_pb2, task_pb2
from runtime.linux import syscalls
from shim.contract import address
from shim.pod import log
from shim.pod import server as pod_server
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import Method, Service
from tests.fakes.loop import open_fds, until

FAKE = Path(__file__).parents[1] / "fakes" / "ocifake"
TASK = "containerd.task.v2.Task"
EVENTS = "containerd.services.events.ttrpc.v1.Events"
GARBAGE = "garbage.json"


@dataclass
class Pod:
    """One running pod server and what a test asks of it."""

    directory: Path
    socket_path: str
    pid: int
    event_sockets: list[str]
    events: list[Message] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    client: TtrpcClient | None = None

    async def call(self, method: str, **fields: Any) -> Any:
        """Call a method of the Task service with the request's fields."""
        assert self.client is not None
        return await self.call_by(self.client, method, **fields)

    async def call_by(self, client: TtrpcClient, method: str, **fields: Any) -> Any:
        """`call` by a connection of the test's own."""
        described = task_pb2.DESCRIPTOR.services_by_name["Task"].methods_by_name[method]
        request = getattr(task_pb2, described.input_type.name)(**fields)
        response = getattr(task_pb2, described.output_type.name, Empty)
        return await client.call(TASK, method, request, response)

    async def connect(self) -> TtrpcClient:
        """One more connection, the caller's to close."""
        return await TtrpcClient.connect(self.socket_path)

    def bundle(
        self, name: str, *, spec: dict[str, Any] | None = None, init: str = "", sandbox: str = "", **fails: str
    ) -> str:
        """Make the bundle of container `name`; `init` is a script, `fails` maps a runtime command to fail lines.

        With `sandbox` it is that of a member of one which has answered version 3.
        """
        path = self.directory / name
        (path / "rootfs").mkdir(parents=True)
        pid = {"type": "pid"}
        plain = {"ociVersion": "1.0.2", "linux": {"namespaces": [pid]}, "process": {"args": ["x"]}, "root": {}}
        (path / "config.json").write_text(json.dumps(plain if spec is None else spec))
        if sandbox:
            (path / "sandbox").write_text(sandbox)
        if init:
            (path / "init.cmd").write_text(init)
        for command, lines in fails.items():
            (path / f"fail.{command}").write_text(lines + "\n")
        return str(path)

    def options(self) -> Packed:
        """Handler options that name the fake, and no rich containers."""
        body = (
            f'version = 1\n[runtime]\nbinary = "{FAKE}"\nroot = "{self.directory}/oci"\nsystemd-cgroup = false\n'
            "[rich]\nenabled = false\n"
        )
        value = runtimeoptions_pb2.Options(config_body=body.encode()).SerializeToString()
        return Packed(type_url="runtimeoptions.v1.Options", value=value)

    async def create(self, name: str, **how: Any) -> int:
        """Make a bundle and create the container; `how` is for `bundle`, or stdio of the request."""
        stdio = {key: how.pop(key) for key in ("stdin", "stdout", "stderr") if key in how}
        bundle = self.bundle(name, **how)
        made = await self.call("Create", id=name, bundle=bundle, options=self.options(), **stdio)
        return int(made.pid)

    async def run(self, name: str, **how: Any) -> int:
        """Create and start."""
        pid = await self.create(name, **how)
        await self.call("Start", id=name)
        return pid

    async def exec(self, name: str, exec_id: str, script: str, **stdio: str) -> None:
        """Add an exec that runs `script`, which has no double quotes."""
        spec = Packed(
            type_url="types.containerd.io/opencontainers/runtime-spec/1/Process",
            value=json.dumps({"args": [script] if script else []}).encode(),
        )
        await self.call("Exec", id=name, exec_id=exec_id, spec=spec, **stdio)

    async def until_event(self, kind: type[Message], **fields: Any) -> Any:
        """The first event of a kind with these field values, once it has come."""
        async with asyncio.timeout(5):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and all(getattr(event, k) == v for k, v in fields.items()):
                        return event
                self.arrived.clear()
                await self.arrived.wait()

    def told(self, container: str = "") -> list[str]:
        """The events so far as `Name` or `Name:exec`, of one container or all."""
        found = []
        for event in self.events:
            if container in ("", event.container_id):  # type: ignore[attr-defined]
                ids = [getattr(event, "exec_id", ""), getattr(event, "id", "")]
                of = next((i for i in ids if i and i != event.container_id), "")  # type: ignore[attr-defined]
                found.append(type(event).__name__ + (f":{of}" if of else ""))
        return found

    def listens(self) -> bool:
        """Whether the server's socket is there."""
        return os.path.exists(self.socket_path)

    def calls(self) -> list[str]:
        """What was asked of the OCI runtime."""
        file = self.directory / "oci" / "test" / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def garbage(self) -> dict[str, int]:
        """How many objects of each type only the server's garbage collector could have freed, and has now."""
        report = self.directory / "home" / GARBAGE
        report.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR2)
        for _ in range(500):
            if report.exists():
                return dict(json.loads(report.read_text()))
            time.sleep(0.01)
        raise TimeoutError("the pod server does not answer")

    def exited(self, timeout_s: float = 5.0) -> int:
        """Wait for the server's end and return its exit status."""
        for _ in range(int(timeout_s / 0.01)):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise TimeoutError("the pod server is still there")

    def children(self) -> list[int]:
        """The server's children that have not ended."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            pids = [int(word) for word in file.read().split()]
        return [pid for pid in pids if _state(pid) not in ("Z", "")]

    async def _forwarded(self, request: Message) -> Empty:
        envelope = request.envelope  # type: ignore[attr-defined]
        assert envelope.namespace == "test"
        kind = getattr(events_pb2, envelope.event.type_url.rpartition(".")[2])
        self.events.append(kind.FromString(envelope.event.value))
        self.arrived.set()
        return Empty()

    async def settled_fds(self) -> set[str]:
        """The server's open descriptors, once the threads that wait for the kernel, with one each, have ended."""
        await until(lambda: len(os.listdir(f"/proc/{self.pid}/task")) == 1)
        return open_fds(self.pid)

    @asynccontextmanager
    async def served(self) -> AsyncIterator["Pod"]:
        """Be containerd: take events, hold a connection."""
        forward = Method("Forward", self._forwarded, events_service_pb2.ForwardRequest, Empty)
        containerd = TtrpcServer([Service(EVENTS, {"Forward": forward})], status_of=lambda _: None)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.event_sockets[0])
        listener.listen()
        await containerd.start(listener)
        self.client = await self.connect()
        await self.call("Connect", id="pod")
        try:
            yield self
        finally:
            self.client.close()
            containerd.close()


def _become_server(home: str, path: str, events: str, listener: int) -> NoReturn:
    """What a pod server is made of, in a process that was just forked from one with everything loaded."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.set_inheritable(listener, False)
        syscalls.set_child_subreaper()
        log.open_fifo(f"{home}/log", debug=True)
        signal.signal(signal.SIGUSR2, lambda *_: _report_garbage(f"{home}/{GARBAGE}"))
        os._exit(pod_server.serve(namespace="test", ttrpc_address=events, socket_path=path, listener=listener))
    finally:
        os._exit(99)


def _report_garbage(path: str) -> None:
    gc.disable()  # from the first time on nothing else takes what the next one is to find
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    found = Counter(type(one).__qualname__ for one in gc.garbage)
    gc.garbage.clear()
    gc.collect()
    with open(f"{path}.new", "w") as file:
        file.write(json.dumps(found))
    os.rename(file.name, path)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0]
    except OSError:
        return ""


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    events = str(tmp_path / "e")
    home = tmp_path / "home"
    home.mkdir()
    os.mkfifo(home / "log")
    log = os.open(home / "log", os.O_RDONLY | os.O_NONBLOCK)
    path = str(tmp_path / "s")
    listener = address.listen(path)
    assert listener is not None
    pid = os.fork()
    if pid == 0:
        _become_server(str(home), path, events, listener.fileno())
    listener.close()
    pod = Pod(tmp_path, path, pid, [events])
    yield pod
    if pod.pid:  # how it ends by itself is a test's own affair
        left = pod.children()
        os.kill(pod.pid, signal.SIGKILL)
        os.waitpid(pod.pid, 0)
        for child in left:
            os.kill(child, signal.SIGKILL)
    said = os.read(log, 1 << 20).decode()  # all of it: the server does not wait for a reader
    os.close(log)
    print(said)
    assert "Traceback" not in said
    assert "bug in" not in said
