"""The spawner's warm-up: plays a pod's whole life once or a few times before the spawner serves.

When Python does something for the first time, it stores results in objects that are shared after a fork: the keys of a
class's instances, versions of types, method lookups, and specialised instructions (`shim.spawner.adaptive`). Results
stored before the fork serve all pods; storing them after the fork makes each pod server copy the page.

Real requests to a real server create, examine and end a sandbox and a container. `true` plays the OCI runtime, sleeping
children play the containers' processes, and the container has its own configuration, so that no hook of the node runs.
Nothing outside the warm-up's directories changes.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
from contextlib import suppress
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from protos.gen import events_service_pb2, runc_options_pb2, runtimeoptions_pb2, task_pb2
from runtime import paths, rundir
from runtime.bundle import Bundle
from runtime.default_path import DEFAULT_PATH
from runtime.linux import syscalls, threads
from runtime.spec.cri import CONTAINER_NAME, CONTAINER_TYPE
from shim.contract import peer
from shim.pod.server import PodServer
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind

ADAPTING_ROUNDS = 3
"""Rounds where Python specialises code: an instruction is at its second execution (CPython 3.12,
adaptive_counter_warmup)."""

ROUND_TIMEOUT_S = 10.0
NAMESPACE = ".warmup"
"""The warm-up's namespace: containerd accepts none that begins with a dot, and `runtime.index` lists none."""

EXEC_ID = "exec"
TASK = "containerd.task.v2.Task"
PROCESS = {
    "args": ["true"],
    "cwd": "/",
    "env": [f"PATH={DEFAULT_PATH}", "HOSTNAME=warmup"],
    "user": {"uid": 0, "gid": 0},
    "capabilities": {name: ["CAP_CHOWN", "CAP_KILL"] for name in ("bounding", "effective", "permitted")},
    "noNewPrivileges": True,
    "oomScoreAdj": 1000,
}
NAMESPACES = ("pid", "ipc", "uts", "mount", "network")
MOUNTS = {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/sys": "sysfs"}

_Response = TypeVar("_Response", bound=Message)


def run(directory: str, *, rounds: int) -> None:
    """Play `rounds` lives in `directory`, which is made and removed. No thread is left. Raises whatever goes wrong."""
    _remove_left(directory)
    os.mkdir(directory, 0o700)
    try:
        for number in range(rounds):
            path = f"{directory}/{number}"
            os.mkdir(path)
            asyncio.run(_one_life(path))
    finally:
        shutil.rmtree(directory)
        for root in (paths.CONTAINERS, paths.BUNDLES):
            with suppress(OSError):  # another spawner may be using it
                os.rmdir(f"{root}/{NAMESPACE}")
        threads.await_others()  # which wait to move into a cgroup: the spawner forks


def _remove_left(directory: str) -> None:
    """Remove what a spawner that was killed during its warm-up has left."""
    shutil.rmtree(directory, ignore_errors=True)
    for root in (paths.CONTAINERS, paths.BUNDLES):
        with suppress(FileNotFoundError):
            for entry in os.scandir(f"{root}/{NAMESPACE}"):
                if peer.lives(int(entry.name.rpartition("-")[2])):
                    continue  # it is warming up
                if entry.is_dir(follow_symlinks=False):
                    rundir.remove(entry.path)
                else:
                    os.unlink(entry.path)


class _Receiver:
    """Plays the part of containerd that receives events."""

    async def forward(self, request: Message) -> None:
        """Receive an event."""


async def _one_life(path: str) -> None:
    events = TtrpcServer(
        [bind(events_service_pb2.DESCRIPTOR.services_by_name["Events"], _Receiver())], status_of=lambda _: None
    )
    await events.start(_listener(f"{path}/events"))
    pod = PodServer(NAMESPACE, f"{path}/events", f"{path}/task")
    serving = asyncio.ensure_future(pod.run(_listener(f"{path}/task").detach()))
    client = await TtrpcClient.connect(f"{path}/task")
    try:
        async with asyncio.timeout(ROUND_TIMEOUT_S):
            await _play(path, client)
    finally:
        pod.end()
        client.close()
        await serving
        events.close()


async def _play(path: str, client: TtrpcClient) -> None:
    """Play the life of a sandbox with one container."""
    true = shutil.which("true") or "true"
    runc = runc_options_pb2.Options(binary_name=true, root=f"{path}/oci")
    body = f'version = 1\n[runtime]\nbinary = "{true}"\nroot = "{path}/oci"\n[rich]\nlxcfs = false\n'
    sandbox = _Container(client, path, "sandbox", runc)
    container = _Container(client, path, "container", runtimeoptions_pb2.Options(config_body=body.encode()))
    try:
        for one in (sandbox, container):
            await one.begin()
        await container.exec()
        await container.look()
    finally:
        for one in (container, sandbox):
            await one.end()
    await client.call(TASK, "Shutdown", task_pb2.ShutdownRequest(id=sandbox.id), Empty)


def _listener(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


class _Container:
    """Plays the part of containerd that sends requests, for one container; `kind` is `sandbox` or `container`."""

    def __init__(self, client: TtrpcClient, path: str, kind: str, options: Message) -> None:
        self._client = client
        self.id = f"{kind}-{os.getpid()}"
        self._bundle = Bundle(f"{path}/{kind}")
        os.makedirs(f"{self._bundle.rootfs}/bin")
        os.close(os.open(f"{self._bundle.rootfs}/bin/true", os.O_WRONLY | os.O_CREAT, 0o755))  # the program of PROCESS
        with open(self._bundle.spec_file, "w") as file:
            json.dump(_spec(kind), file)
        self._out, self._err = f"{self._bundle.path}/out", f"{self._bundle.path}/err"
        for fifo in (self._out, self._err):
            os.mkfifo(fifo)
        self._readers = [os.open(fifo, os.O_RDONLY | os.O_NONBLOCK) for fifo in (self._out, self._err)]
        self._options = options
        self._init = 0
        self._waiting: asyncio.Future[task_pb2.WaitResponse] | None = None

    async def begin(self) -> None:
        """Create and Start."""
        self._init = _sleeper(self._bundle.init_pid_file)
        create = task_pb2.CreateTaskRequest(id=self.id, bundle=self._bundle.path, stdout=self._out, stderr=self._err)
        create.options.type_url = self._options.DESCRIPTOR.full_name
        create.options.value = self._options.SerializeToString()
        await self._call("Create", create, task_pb2.CreateTaskResponse)
        self._waiting = asyncio.ensure_future(
            self._call("Wait", task_pb2.WaitRequest(id=self.id), task_pb2.WaitResponse)
        )
        await self._call("Start", task_pb2.StartRequest(id=self.id), task_pb2.StartResponse)

    async def exec(self) -> None:
        """Run one exec to its end."""
        named = {"id": self.id, "exec_id": EXEC_ID}
        request = task_pb2.ExecProcessRequest(id=self.id, exec_id=EXEC_ID, stdout=self._out, stderr=self._err)
        request.spec.value = json.dumps(PROCESS).encode()
        await self._call("Exec", request, Empty)
        pid = _sleeper(self._bundle.exec_pid_file(EXEC_ID))
        try:
            await self._call("Start", task_pb2.StartRequest(**named), task_pb2.StartResponse)
        finally:
            os.kill(pid, signal.SIGKILL)
        await self._call("Wait", task_pb2.WaitRequest(**named), task_pb2.WaitResponse)
        await self._call("Delete", task_pb2.DeleteRequest(**named), task_pb2.DeleteResponse)

    async def look(self) -> None:
        """Send what the kubelet asks from time to time."""
        await self._call("Connect", task_pb2.ConnectRequest(id=self.id), task_pb2.ConnectResponse)
        await self._call("State", task_pb2.StateRequest(id=self.id), task_pb2.StateResponse)
        await self._call("Pids", task_pb2.PidsRequest(id=self.id), task_pb2.PidsResponse)
        await self._call("Stats", task_pb2.StatsRequest(id=self.id), task_pb2.StatsResponse)

    async def end(self) -> None:
        """Kill and Delete; if it has not begun, only end its processes and close its descriptors."""
        for reader in self._readers:
            os.close(reader)
        if self._waiting is None:
            if self._init:
                os.kill(self._init, signal.SIGKILL)
            return
        await self._call("Kill", task_pb2.KillRequest(id=self.id, signal=signal.SIGKILL), Empty)
        await self._waiting
        await self._call("Delete", task_pb2.DeleteRequest(id=self.id), task_pb2.DeleteResponse)

    async def _call(self, method: str, request: Message, response: type[_Response]) -> _Response:
        return await self._client.call(TASK, method, request, response)


def _spec(kind: str) -> dict[str, object]:
    """A spec much like one of the CRI plugin."""
    return {
        "ociVersion": "1.0.2",
        "process": PROCESS,
        "root": {"path": "rootfs"},
        "hostname": "warmup",
        "mounts": [
            {"destination": at, "type": what, "source": what, "options": ["nosuid"]} for at, what in MOUNTS.items()
        ],
        "annotations": {CONTAINER_TYPE: kind, CONTAINER_NAME: "warmup"},
        "linux": {
            "namespaces": [{"type": name} for name in NAMESPACES],
            "resources": {"devices": [{"allow": False, "access": "rwm"}], "cpu": {"shares": 2}},
            "cgroupsPath": "/warmup",
        },
    }


def _sleeper(pid_file: str) -> int:
    """A child that sleeps until it or its parent is killed. An OCI runtime would write its pid to `pid_file`."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        syscalls.set_pdeathsig(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        while True:
            signal.pause()
    try:
        with open(pid_file, "w") as file:
            file.write(str(pid))
    except OSError:
        os.kill(pid, signal.SIGKILL)
        raise
    return pid
