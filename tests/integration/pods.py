"""Pods and containers through the CRI, as the kubelet makes them."""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cri.client import CallFailed, Client
from tests.cri.gen import runtime_pb2 as pb
from tests.cri.stream import Stream
from tests.integration import images
from tests.integration.node import Node
from tests.integration.waiting import until

_numbers = itertools.count(1)

OWN_PID_NAMESPACES = pb.NamespaceOption(pid=pb.NamespaceMode.CONTAINER)
SHARED_PID_NAMESPACE = pb.NamespaceOption(pid=pb.NamespaceMode.POD)
EXITED = pb.ContainerState.CONTAINER_EXITED
RUNNING = pb.ContainerState.CONTAINER_RUNNING


class Container:
    """A container of a pod. `id` is the CRI's."""

    def __init__(self, pod: "Pod", identity: str, log: Path) -> None:
        self.pod = pod
        self.id = identity
        self.log = log

    @property
    def _cri(self) -> Client:
        return self.pod.pods.client

    def start(self) -> "Container":
        self._cri.call(pb.StartContainerRequest(container_id=self.id), pb.StartContainerResponse)
        return self

    def stop(self, grace_s: int) -> None:
        request = pb.StopContainerRequest(container_id=self.id, timeout=grace_s)
        self._cri.call(request, pb.StopContainerResponse, timeout_s=grace_s + 30)

    def remove(self) -> None:
        self._cri.call(pb.RemoveContainerRequest(container_id=self.id), pb.RemoveContainerResponse)

    def status(self) -> pb.ContainerStatus:
        return self._cri.call(pb.ContainerStatusRequest(container_id=self.id), pb.ContainerStatusResponse).status

    def info(self) -> dict[str, Any]:
        """containerd's own account of the container: pid, sandboxID, runtimeSpec and more."""
        request = pb.ContainerStatusRequest(container_id=self.id, verbose=True)
        found: dict[str, Any] = json.loads(self._cri.call(request, pb.ContainerStatusResponse).info["info"])
        return found

    def pid(self) -> int:
        """The host pid of the container's PID 1."""
        return int(self.info()["pid"])

    def wait(self, *, timeout_s: float = 30.0) -> pb.ContainerStatus:
        """Wait until the container has exited, and return its status."""
        until(lambda: self.status().state == EXITED, f"container {self.id} to exit", timeout_s=timeout_s)
        return self.status()

    def exec(self, *command: str, timeout_s: int = 0, give_up_s: float = 60.0) -> pb.ExecSyncResponse:
        """ExecSync: the exit code is in the answer. The client gives up after `give_up_s`."""
        request = pb.ExecSyncRequest(container_id=self.id, cmd=command, timeout=timeout_s)
        return self._cri.call(
            request, pb.ExecSyncResponse, timeout_s=max(give_up_s, timeout_s + 10.0 if timeout_s else 0.0)
        )

    def shell(self, script: str) -> str:
        """Run a shell script, which must succeed, and return its output."""
        answer = self.exec("sh", "-c", script)
        assert answer.exit_code == 0, f"{script}: {answer.exit_code}: {answer.stderr!r}"
        return answer.stdout.decode()

    def open_exec(self, *command: str, tty: bool = False) -> Stream:
        """A streaming exec with stdin."""
        request = pb.ExecRequest(container_id=self.id, cmd=command, tty=tty, stdin=True, stdout=True, stderr=not tty)
        return Stream(self._cri.call(request, pb.ExecResponse).url)

    def attach(self, *, tty: bool = False, stdin: bool = True) -> Stream:
        """The container's own stdio."""
        request = pb.AttachRequest(container_id=self.id, stdin=stdin, tty=tty, stdout=True, stderr=not tty)
        return Stream(self._cri.call(request, pb.AttachResponse).url)

    def update(self, resources: pb.LinuxContainerResources) -> None:
        request = pb.UpdateContainerResourcesRequest(container_id=self.id, linux=resources)
        self._cri.call(request, pb.UpdateContainerResourcesResponse)

    def stats(self) -> pb.ContainerStats:
        return self._cri.call(pb.ContainerStatsRequest(container_id=self.id), pb.ContainerStatsResponse).stats

    def reopen_log(self) -> None:
        self._cri.call(pb.ReopenContainerLogRequest(container_id=self.id), pb.ReopenContainerLogResponse)

    def output(self, stream: str = "stdout") -> bytes:
        """What the log has of the container's `stream` by now, put together again."""
        return read_log(self.log, stream)

    def wait_output(self, expected: bytes, stream: str = "stdout", *, timeout_s: float = 10.0) -> None:
        """Wait until the log has exactly this: containerd may report an exit before it wrote the last lines."""
        end = time.monotonic() + timeout_s
        while (seen := self.output(stream)) != expected and time.monotonic() < end:
            time.sleep(0.05)
        assert seen == expected, f"{len(seen)} of {len(expected)} bytes, ending {seen[-60:]!r}"


class Pod:
    """A sandbox with its containers."""

    def __init__(self, pods: "Pods", config: pb.PodSandboxConfig, handler: str, namespaces: pb.NamespaceOption) -> None:
        self.pods = pods
        self.config = config
        self.namespaces = namespaces
        request = pb.RunPodSandboxRequest(config=config, runtime_handler=handler)
        self.id = pods.client.call(request, pb.RunPodSandboxResponse).pod_sandbox_id

    def create(self, *command: str, name: str = "app", config: pb.ContainerConfig | None = None) -> Container:
        """Create a container of the busybox image; `config` adds what else is wanted. Raises CallFailed."""
        wanted = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=name, attempt=next(_numbers)),
            image=pb.ImageSpec(image=images.BUSYBOX),
            command=command,
            log_path=f"{name}-{next(_numbers)}.log",
            linux=pb.LinuxContainerConfig(
                security_context=pb.LinuxContainerSecurityContext(namespace_options=self.namespaces)
            ),
        )
        if config is not None:
            wanted.MergeFrom(config)
        request = pb.CreateContainerRequest(pod_sandbox_id=self.id, config=wanted, sandbox_config=self.config)
        identity = self.pods.client.call(request, pb.CreateContainerResponse).container_id
        return Container(self, identity, Path(self.config.log_directory) / wanted.log_path)

    def run(self, *command: str, name: str = "app", config: pb.ContainerConfig | None = None) -> Container:
        """Create and start."""
        return self.create(*command, name=name, config=config).start()

    def status(self) -> pb.PodSandboxStatus:
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=self.id)
        return self.pods.client.call(request, pb.PodSandboxStatusResponse).status

    def pid(self) -> int:
        """The host pid of the pause process."""
        request = pb.PodSandboxStatusRequest(pod_sandbox_id=self.id, verbose=True)
        return int(json.loads(self.pods.client.call(request, pb.PodSandboxStatusResponse).info["info"])["pid"])

    def stop(self) -> None:
        self.pods.client.call(pb.StopPodSandboxRequest(pod_sandbox_id=self.id), pb.StopPodSandboxResponse)

    def remove(self) -> None:
        self.stop()
        self.pods.client.call(pb.RemovePodSandboxRequest(pod_sandbox_id=self.id), pb.RemovePodSandboxResponse)


class Pods:
    """Makes pods on a node with a runtime handler. After a restart of containerd, call reconnect()."""

    def __init__(self, node: Node, handler: str) -> None:
        self.node = node
        self.handler = handler
        self.client = Client(node.socket)

    def reconnect(self) -> None:
        """Dial again at once, rather than when gRPC's back-off allows."""
        self.client.close()
        self.client = Client(self.node.socket)

    def run(
        self,
        *,
        handler: str | None = None,
        annotations: Mapping[str, str] | None = None,
        namespaces: pb.NamespaceOption = OWN_PID_NAMESPACES,
        cgroup_parent: str = "",
        name: str = "",
        hostname: str = "",
        namespace: str = "tests",
        labels: Mapping[str, str] | None = None,
    ) -> Pod:
        """Run a sandbox with a network of its own; `namespaces` goes for its containers too. Raises CallFailed.

        `name` and `namespace` are Kubernetes'; only the uid need be another for each.
        """
        unique = f"pod-{next(_numbers)}"
        name = name or unique
        logs = self.node.base / "logs" / unique
        logs.mkdir(parents=True)
        wanted = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, uid=f"uid-{unique}", namespace=namespace),
            hostname="" if namespaces.network == pb.NamespaceMode.NODE else hostname or name,
            labels=dict(labels or {}),
            log_directory=str(logs),
            dns_config=pb.DNSConfig(servers=["192.0.2.1"]),
            annotations=dict(annotations or {}),
            linux=pb.LinuxPodSandboxConfig(
                cgroup_parent=cgroup_parent or self.node.cgroup,
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=namespaces),
            ),
        )
        return Pod(self, wanted, handler or self.handler, namespaces)

    def remove_all(self) -> list[str]:
        """Remove every pod of the node; what could not be removed is returned."""
        failed = []
        for item in self.client.call(pb.ListPodSandboxRequest(), pb.ListPodSandboxResponse).items:
            try:
                self.client.call(pb.StopPodSandboxRequest(pod_sandbox_id=item.id), pb.StopPodSandboxResponse)
                self.client.call(pb.RemovePodSandboxRequest(pod_sandbox_id=item.id), pb.RemovePodSandboxResponse)
            except CallFailed as error:
                failed.append(str(error))
        return failed


def read_log(path: Path, stream: str) -> bytes:
    """The bytes of one stream in a CRI log: `TIME STREAM TAG TEXT`, where tag P marks an unfinished line."""
    parts: list[bytes] = []
    for line in path.read_bytes().splitlines(keepends=True):
        _, name, tag, text = line.split(b" ", 3)
        if name == stream.encode():
            parts.append(text if tag == b"F" else text[:-1])
    return b"".join(parts)


def shell(script: str) -> Sequence[str]:
    """The command that runs a shell script."""
    return ("sh", "-c", script)
