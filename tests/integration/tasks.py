"""containerd's Tasks service, called directly."""

import json
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from google.protobuf import any_pb2, empty_pb2

from tests.cri.client import Client
from tests.cri.gen import tasks_pb2 as pb
from tests.integration.ctr import Ctr

SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"


class Tasks:
    """Tasks for containers that ctr created. Their rootfs is the unpacked image, shared read-write by one test."""

    def __init__(self, ctr: Ctr) -> None:
        self.ctr = ctr
        self.client = Client(ctr.node.socket, namespace="default")
        self.pool = ThreadPoolExecutor(4)
        self.rootfs = self._unpack()
        self.stdio = ctr.node.base / "fifos"
        self.stdio.mkdir(exist_ok=True)

    def _unpack(self) -> Path:
        """`ctr run --rootfs` takes a directory: Create then needs no snapshot's mounts."""
        rootfs = self.ctr.node.base / "rootfs"
        if not rootfs.exists():
            rootfs.mkdir()
            busybox = Path("/bin/busybox").read_bytes()
            for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "run"):
                (rootfs / name).mkdir()
            (rootfs / "bin/busybox").write_bytes(busybox)
            (rootfs / "bin/busybox").chmod(0o755)
            for applet in ("sh", "sleep", "true", "echo", "cat", "kill"):
                (rootfs / "bin" / applet).symlink_to("busybox")
        return rootfs

    def create(self, *command: str, options: any_pb2.Any | None = None) -> str:
        """A container with a task in state CREATED, without stdio.

        Made by running it once, because `ctr containers create` of 1.6 cannot name an OCI runtime.
        """
        container = self.ctr.new_id()
        flags = ["--cgroup", f"{self.ctr.node.cgroup}/{container}", "--detach", "--null-io", "--rootfs"]
        self.ctr.check("run", *self.ctr.runtime_flags(), *flags, str(self.rootfs), container, *command)
        self.ctr.kill(container, "SIGKILL")
        self.ctr.wait_stopped(container)
        self.ctr.delete_task(container)
        self.client.call(pb.CreateTaskRequest(container_id=container, options=options), pb.CreateTaskResponse)
        return container

    def start(self, container: str, exec_id: str = "") -> int:
        request = pb.StartRequest(container_id=container, exec_id=exec_id)
        return self.client.call(request, pb.StartResponse).pid

    def get(self, container: str, exec_id: str = "") -> pb.Process:
        request = pb.GetRequest(container_id=container, exec_id=exec_id)
        return self.client.call(request, pb.GetResponse).process

    def wait(self, container: str, exec_id: str = "") -> "Future[pb.WaitResponse]":
        """A wait under way."""
        request = pb.WaitRequest(container_id=container, exec_id=exec_id)
        return self.pool.submit(self.client.call, request, pb.WaitResponse)

    def kill(self, container: str, number: int = signal.SIGKILL, exec_id: str = "") -> None:
        request = pb.KillRequest(container_id=container, exec_id=exec_id, signal=number)
        self.client.call(request, empty_pb2.Empty)

    def add_exec(self, container: str, exec_id: str, *command: str, stdout: str = "") -> None:
        """Add a process to the container, not yet started."""
        process = {"args": command, "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]}
        spec = any_pb2.Any(type_url=SPEC_URL, value=json.dumps(process).encode())
        request = pb.ExecProcessRequest(
            container_id=container, exec_id=exec_id, spec=spec, stdout=stdout, stderr=stdout and f"{stdout}-err"
        )
        self.client.call(request, empty_pb2.Empty)

    def delete(self, container: str) -> int:
        return self.client.call(pb.DeleteTaskRequest(container_id=container), pb.DeleteResponse).exit_status

    def delete_exec(self, container: str, exec_id: str) -> int:
        request = pb.DeleteProcessRequest(container_id=container, exec_id=exec_id)
        return self.client.call(request, pb.DeleteResponse).exit_status

    def close(self) -> None:
        self.client.close()
        self.pool.shutdown()
