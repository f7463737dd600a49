"""Pods through containerd's CRI plugin, as the kubelet makes them; the client is the tests' own (`tests.cri`)."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append("/usr/lib/python3/dist-packages")  # grpc is Debian's, everything else the shim's

from guest import DRIVER, LIMIT, LOGS, PATIENCE_S, PREFIX, STOP_TIMEOUT_S, TOP, Container, until

from tests.cri.client import Client
from tests.cri.gen import runtime_pb2 as pb

SOCKET = Path("/run/containerd/containerd.sock")
FIRST_ID, IDS = 1_000_000, 65_536
"""The user namespaces of pods: the first host id, and the number of ids."""

OWN_FILE, NODE_FILE = Path("/etc/vm/handler.toml"), PREFIX / "etc/pouchrich/config.toml"
OWN, DROP_IN = "own", "drop-in"
"""Handlers of `PodContainer`: our runtime type with OWN_FILE; a drop-in for containerd's type, with the node's file."""


def configuration(handlers: dict[str, Path], image: str, *, selinux: bool = False) -> str:
    """containerd's configuration, with our `handlers` and their configuration files, and `image` for the sandboxes.

    With `selinux` containerd gives each container a label.
    """
    plugin = 'plugins."io.containerd.grpc.v1.cri"'
    tables = [
        'version = 2\ndisabled_plugins = ["io.containerd.internal.v1.opt"]',
        f'[{plugin}]\nsandbox_image = "{image}"\nenable_selinux = {str(selinux).lower()}',
        f'[{plugin}.containerd]\ndefault_runtime_name = "{next(iter(handlers))}"',
        f'[{plugin}.cni]\nconf_dir = "/etc/vm"',  # must exist, although no pod here has its own network
    ]
    for name, file in handlers.items():
        runtime = f"{plugin}.containerd.runtimes.{name}"
        kind = 'runtime_type = "io.containerd.pouchrich.v2"\npod_annotations = ["pouchrich.io/*"]'
        tables.append(f'[{runtime}]\n{kind}\n[{runtime}.options]\nConfigPath = "{file}"')
    return "\n".join(tables) + "\n"


class Pod:
    """A pod in the host's network with one started container. `mounts` have the same paths in it as on the host."""

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
        """The host PID of PID 1."""
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


def both_ways() -> str:
    """The configuration of a containerd with OWN and DROP_IN, and with a bridge in the guest as network for pods.

    The options of `runc` tell the kubelet the cgroup driver.
    """
    network = {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": True,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": "10.222.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    directory = Path("/etc/vm")
    directory.mkdir(exist_ok=True)
    (directory / "cni.conflist").write_text(json.dumps(network))
    plugin = 'plugins."io.containerd.cri.v1.runtime"'
    kind = 'pod_annotations = ["pouchrich.io/*"]\ncontainer_annotations = ["io.kubernetes.pod.terminationGracePeriod"]'
    return f"""version = 3
disabled_plugins = ["io.containerd.internal.v1.opt"]
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/systemd:latest"
[{plugin}.containerd]
default_runtime_name = "{OWN}"
[{plugin}.cni]
conf_dir = "/etc/vm"
bin_dirs = ["/usr/lib/cni"]
[{plugin}.containerd.runtimes.{OWN}]
runtime_type = "io.containerd.pouchrich.v2"
{kind}
options.ConfigPath = "{OWN_FILE}"
[{plugin}.containerd.runtimes.{DROP_IN}]
runtime_type = "io.containerd.runc.v2"
runtime_path = "{PREFIX}/bin/containerd-shim-pouchrich-v2"
{kind}
[{plugin}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options.SystemdCgroup = {str(DRIVER == "systemd").lower()}
"""


class PodContainer(Container):
    """The only container of a pod, made through the CRI as by the kubelet; limits are changed in place.

    With `mapped` the pod has a user namespace (`hostUsers: false`) and uses the drop-in, because containerd 2.1 asks
    only its own runtime type for features. That handler has no options; containerd adds some, with the owner of the
    streams. `more` is added to the container's configuration.
    """

    NAMESPACE = "k8s.io"

    def __init__(
        self,
        name: str,
        image: str,
        config: str,
        *command: str,
        memory: int = LIMIT,
        options: Sequence[str] = (),
        mapped: bool = False,
        more: pb.ContainerConfig | None = None,
    ) -> None:
        assert not options, "ctr's alone"
        self.name = name
        self.log = LOGS / f"{name}.log"
        file = NODE_FILE if mapped else OWN_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"version = 1\n{config}")
        self._client = Client(SOCKET)
        parent = f"pods-{name.replace('-', '_')}.slice" if DRIVER == "systemd" else f"/pods/{name}"
        namespaces = pb.NamespaceOption(network=pb.NamespaceMode.NODE, pid=pb.NamespaceMode.CONTAINER)
        if mapped:
            ids = [pb.IDMapping(host_id=FIRST_ID, container_id=0, length=IDS)]
            users = pb.UserNamespace(mode=pb.NamespaceMode.POD, uids=ids, gids=ids)
            namespaces = pb.NamespaceOption(pid=pb.NamespaceMode.CONTAINER, userns_options=users)
        sandbox = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, uid=name, namespace="default"),
            hostname=name if mapped else "",
            log_directory=str(LOGS),
            linux=pb.LinuxPodSandboxConfig(
                cgroup_parent=parent,
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=namespaces),
            ),
        )
        request = pb.RunPodSandboxRequest(config=sandbox, runtime_handler=DROP_IN if mapped else OWN)
        self.pod = self._client.call(request, pb.RunPodSandboxResponse, timeout_s=PATIENCE_S).pod_sandbox_id
        wanted = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name="app"),
            image=pb.ImageSpec(image=f"localhost/{image}:latest"),
            command=command,
            log_path=self.log.name,
            linux=pb.LinuxContainerConfig(
                resources=pb.LinuxContainerResources(memory_limit_in_bytes=memory),
                security_context=pb.LinuxContainerSecurityContext(namespace_options=namespaces),
            ),
        )
        if more is not None:
            wanted.MergeFrom(more)
        try:
            create = pb.CreateContainerRequest(pod_sandbox_id=self.pod, config=wanted, sandbox_config=sandbox)
            self.id = self._client.call(create, pb.CreateContainerResponse, timeout_s=PATIENCE_S).container_id
            start = pb.StartContainerRequest(container_id=self.id)
            self._client.call(start, pb.StartContainerResponse, timeout_s=3 * PATIENCE_S)
        except Exception:
            self._remove_pod()
            raise
        scope = f"pods.slice/{parent}/cri-containerd-{self.id}.scope"
        self.cgroup = TOP / scope if DRIVER == "systemd" else TOP / parent[1:] / self.id

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        request = pb.ExecSyncRequest(container_id=self.id, cmd=command, timeout=int(5 * PATIENCE_S))
        done = self._client.call(request, pb.ExecSyncResponse, timeout_s=6 * PATIENCE_S)
        said, wrong = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.exit_code, said, wrong)

    def update(self, resources: dict[str, object]) -> None:
        """UpdateContainerResources, a resize in place. Resources without a CRI field are named by their cgroup file."""
        found = json.loads(json.dumps(resources))
        cpu, pids = found.get("cpu", {}), found.get("pids", {})
        wanted = pb.LinuxContainerResources(
            memory_limit_in_bytes=found.get("memory", {}).get("limit", 0),
            cpu_quota=cpu.get("quota", 0),
            cpu_period=cpu.get("period", 0),
            unified={"pids.max": str(pids["limit"])} if pids else {},
        )
        request = pb.UpdateContainerResourcesRequest(container_id=self.id, linux=wanted)
        self._client.call(request, pb.UpdateContainerResourcesResponse, timeout_s=PATIENCE_S)

    def end(self, word: str = "") -> int:
        """Stop the container as the kubelet does, or wait for its end; remove the pod and return the exit code."""
        if word:
            assert word == "TERM", word
            stop = pb.StopContainerRequest(container_id=self.id, timeout=STOP_TIMEOUT_S)
            self._client.call(stop, pb.StopContainerResponse, timeout_s=STOP_TIMEOUT_S + PATIENCE_S)
        code = self._now().exit_code if until(self.has_ended) else -1
        self.forget()
        return code

    def has_ended(self) -> bool:
        """Whether the CRI reports its end, as to the kubelet."""
        return self._now().state == pb.ContainerState.CONTAINER_EXITED

    def _now(self) -> pb.ContainerStatus:
        request = pb.ContainerStatusRequest(container_id=self.id)
        return self._client.call(request, pb.ContainerStatusResponse).status

    def forget(self) -> None:
        self._remove_pod()
        self._client.close()

    def _remove_pod(self) -> None:
        for word in (pb.StopPodSandboxRequest, pb.RemovePodSandboxRequest):
            self._client.call(word(pod_sandbox_id=self.pod), pb.RemovePodSandboxResponse, timeout_s=PATIENCE_S)

    def left(self) -> list[str]:
        """As `Container.left`, without the pod's cgroup, which the kubelet removes."""
        tops = (top for top in TOP.iterdir() if top.name.startswith("pods"))
        return sorted(path for top in tops for path, *_ in os.walk(top) if self.id in os.path.basename(path))
