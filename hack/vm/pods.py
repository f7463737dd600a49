"""Pods through containerd's CRI plugin, as the kubelet makes them; the client is the tests' own (`tests.cri`)."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append("/usr/lib/python3/dist-packages")  # grpc is Debian's, all else the shim's own

from guest import LOGS, PATIENCE_S, until

from tests.cri.client import Client
from tests.cri.gen import runtime_pb2 as pb

SOCKET = Path("/run/containerd/containerd.sock")


def configuration(handlers: dict[str, Path], image: str, *, selinux: bool = False) -> str:
    """containerd's, with these handlers of ours, each with its configuration; pods are made of `image` too.

    With `selinux` it gives containers a label each.
    """
    plugin = 'plugins."io.containerd.grpc.v1.cri"'
    tables = [
        'version = 2\ndisabled_plugins = ["io.containerd.internal.v1.opt"]',
        f'[{plugin}]\nsandbox_image = "{image}"\nenable_selinux = {str(selinux).lower()}',
        f'[{plugin}.containerd]\ndefault_runtime_name = "{next(iter(handlers))}"',
        f'[{plugin}.cni]\nconf_dir = "/etc/vm"',  # one has to exist, though no pod here has a network of its own
    ]
    for name, file in handlers.items():
        runtime = f"{plugin}.containerd.runtimes.{name}"
        kind = 'runtime_type = "io.containerd.pouchrich.v2"\npod_annotations = ["pouchrich.io/*"]'
        tables.append(f'[{runtime}]\n{kind}\n[{runtime}.options]\nConfigPath = "{file}"')
    return "\n".join(tables) + "\n"


class Pod:
    """A pod in the host's network with one container, which has been started. `mounts` are at the same place in it."""

    def __init__(self, handler: str, image: str, *command: str, mounts: Sequence[str] = ()) -> None:
        self._client = Client(SOCKET)
        namespaces = pb.NamespaceOption(network=pb.NamespaceMode.NODE, pid=pb.NamespaceMode.CONTAINER)
        context = pb.LinuxSandboxSecurityContext(namespace_options=namespaces)
        config = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=handler, uid=handler, namespace="default"),
            log_directory=str(LOGS),
            linux=pb.LinuxPodSandboxConfig(security_context=context),
        )
        request = pb.RunPodSandboxRequest(config=config, runtime_handler=handler)
        self.id = self._client.call(request, pb.RunPodSandboxResponse, timeout_s=PATIENCE_S).pod_sandbox_id
        container = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name="app"),
            image=pb.ImageSpec(image=image),
            command=command,
            log_path=f"{handler}.log",
            mounts=[pb.Mount(host_path=path, container_path=path) for path in mounts],
            linux=pb.LinuxContainerConfig(
                security_context=pb.LinuxContainerSecurityContext(namespace_options=namespaces)
            ),
        )
        create = pb.CreateContainerRequest(pod_sandbox_id=self.id, config=container, sandbox_config=config)
        self.container = self._client.call(create, pb.CreateContainerResponse, timeout_s=PATIENCE_S).container_id
        start = pb.StartContainerRequest(container_id=self.container)
        self._client.call(start, pb.StartContainerResponse, timeout_s=PATIENCE_S)
        self._log = LOGS / f"{handler}.log"

    def lines(self) -> list[str]:
        """The container's log, without the CRI's time, stream and tag."""
        return [line.split(" ", 3)[3] for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def pid(self) -> int:
        """The host's of PID 1."""
        request = pb.ContainerStatusRequest(container_id=self.container, verbose=True)
        answer = self._client.call(request, pb.ContainerStatusResponse)
        return int(json.loads(answer.info["info"])["pid"])

    def shell(self, script: str) -> str:
        request = pb.ExecSyncRequest(container_id=self.container, cmd=("/bin/sh", "-c", script), timeout=60)
        return self._client.call(request, pb.ExecSyncResponse, timeout_s=PATIENCE_S).stdout.decode().strip()

    def end(self, grace_s: int) -> int:
        """Stop it as the kubelet does, remove the pod, and return the container's exit code."""
        stop = pb.StopContainerRequest(container_id=self.container, timeout=grace_s)
        self._client.call(stop, pb.StopContainerResponse, timeout_s=grace_s + PATIENCE_S)
        request = pb.ContainerStatusRequest(container_id=self.container)
        exited = lambda: self._client.call(request, pb.ContainerStatusResponse).status  # noqa: E731
        until(lambda: exited().state == pb.ContainerState.CONTAINER_EXITED)
        code = exited().exit_code
        for word in (pb.StopPodSandboxRequest, pb.RemovePodSandboxRequest):
            self._client.call(word(pod_sandbox_id=self.id), pb.RemovePodSandboxResponse, timeout_s=PATIENCE_S)
        self._client.close()
        return code
