"""A Kubernetes with one node: etcd, the control plane and kubelet beside the tests' containerd.

All of it runs under the node's reaper and in its namespaces, with its files in the node's directory, and ends with it.
"""

import contextlib
import json
import os
import re
import resource
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.integration import binaries, isolation, processes
from tests.integration.node import Node
from tests.integration.waiting import until

START_TIMEOUT_S = 120.0
ADDRESS = "192.0.2.1"  # of the node; kubelet takes no loopback address
SERVER = "https://127.0.0.1:6443"
ETCD = "http://127.0.0.1:2379"
TOKEN = "administrator"
NAME = "node"

GATES = {"ContainerStopSignals": True}
"""Of what is still alpha, from 1.33 on."""

KERNEL = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet asks of the kernel. It reads these values instead of the machine's, and is told to write none.

In a mount namespace of kubelet's own, as the kernel mounts no proc in a user namespace beside one that is covered in
part. The rest of the node's mounts are shared with it.
"""

Object = dict[str, Any]


class Refused(Exception):
    """The API's answer to a request that failed; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


def shield() -> None:
    """Give kubelet an address to be reached at, and a /var/log of its own, which cannot be configured.

    For this process's mount and network namespaces (`isolation.enter`).
    """
    isolation.mount("tmpfs", Path("/var/log"), "tmpfs", "mode=0755")  # /var/log/pods
    for command in (f"link add {NAME} type bridge", f"address add {ADDRESS}/24 dev {NAME}", f"link set {NAME} up"):
        subprocess.run(["ip", *command.split()], check=True)


def numbers(version: str) -> tuple[int, ...]:
    """Those that "v1.36.3" or "2.4.0-beta.0" begins with: (1, 36, 3), (2, 4, 0)."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()


def release(programs: Path) -> tuple[int, ...]:
    """The release of the Kubernetes in a directory: what its kubelet says of itself."""
    said = subprocess.run([programs / "kubelet", "--version"], capture_output=True, text=True, check=True).stdout
    return numbers(said.split()[-1])


class Cluster:
    """A running Kubernetes, `programs` being the directory that hack/build-kubernetes.sh made, or one with another."""

    def __init__(self, node: Node, programs: Path) -> None:
        self.node = node
        self.release = release(programs)
        self.containerd = numbers(binaries.release(node.version))
        self.base = node.base / "kubernetes"
        self.base.mkdir()
        self.kubelet_pid = 0
        self.programs = programs
        self._certificate, self._key = self.base / "certificate", self.base / "key"
        self.kubeconfig = self.base / "kubeconfig"
        self._write_files()
        # As on any node with a systemd: what is mounted and unmounted later is so in pods too, and for kubelet.
        subprocess.run(["nsenter", f"--mount=/proc/{node.pid}/ns/mnt", "mount", "--make-shared", "/"], check=True)
        self._tls = ssl.create_default_context(cafile=str(self._certificate))
        self.start()

    def _write_files(self) -> None:
        names = f"subjectAltName=IP:127.0.0.1,IP:{ADDRESS}"
        request = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=kubernetes -addext {names}"
        files = ["-out", str(self._certificate), "-keyout", str(self._key)]
        subprocess.run([*request.split(), *files], check=True, capture_output=True)
        (self.base / "tokens").write_text(f"{TOKEN},{TOKEN},{TOKEN},system:masters\n")
        cluster = {"server": SERVER, "certificate-authority": str(self._certificate)}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": cluster}],
            "users": [{"name": NAME, "user": {"token": TOKEN}}],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
            "current-context": NAME,
        }
        self.kubeconfig.write_text(json.dumps(kubeconfig))
        (self.base / "kubelet.json").write_text(json.dumps(self._kubelet_configuration()))

    def _kubelet_configuration(self) -> Object:
        later: Object = {}
        if self.release >= (1, 31):
            later["failCgroupV1"] = False
        if self.release >= (1, 33):
            later["featureGates"] = GATES
        if self.release >= (1, 35):
            later["crashLoopBackOff"] = {"maxContainerRestartPeriod": "1s"}
        return {
            **later,
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": ADDRESS,
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "clusterDomain": "cluster.local",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.node.cgroup,
            "protectKernelDefaults": True,  # kubelet complains instead of writing
            "makeIPTablesUtilChains": False,
            "oomScoreAdj": 0,  # a lower one needs CAP_SYS_RESOURCE
            "maxOpenFiles": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "resolvConf": "",
            "evictionHard": {"memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "failSwapOn": False,
        }

    def _run(self, program: str, *flags: str, through: Sequence[str] = ()) -> int:
        argv = [*through, str(self.programs / program), *flags]
        return self.node.spawn(argv, self.log_of(program), {"HOME": str(self.base)})

    def _covering_the_kernel(self) -> list[str]:
        """A command that executes the one that follows it where KERNEL is what /proc/sys says."""
        lines = ["set -e", "mount --make-private /proc"]
        for number, (name, value) in enumerate(KERNEL.items()):
            file = self.base / f"kernel-{number}"
            file.write_text(f"{value}\n")
            lines.append(f"mount --bind {file} /proc/sys/{name}")
        script = "\n".join([*lines, 'exec "$@"'])
        return ["unshare", "--mount", "--propagation=unchanged", "sh", "-c", script, "sh"]

    def log_of(self, program: str) -> Path:
        return self.base / f"{program}.log"

    def start(self) -> None:
        """Start all of it, with what etcd has kept, and wait until the node is ready."""
        peers = "http://127.0.0.1:2380"
        gates = "--feature-gates=" + ",".join(f"{name}={str(on).lower()}" for name, on in GATES.items())
        self._run(
            "etcd",
            f"--data-dir={self.base}/etcd",
            *(f"--{kind}-client-urls={ETCD}" for kind in ("listen", "advertise")),
            *(f"--{kind}-peer-urls={peers}" for kind in ("listen", "initial-advertise")),
            f"--initial-cluster=default={peers}",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={ETCD}",
            "--bind-address=127.0.0.1",
            f"--advertise-address={ADDRESS}",
            f"--tls-cert-file={self._certificate}",
            f"--tls-private-key-file={self._key}",
            f"--cert-dir={self.base}",
            f"--token-auth-file={self.base}/tokens",
            "--allow-privileged=true",
            "--authorization-mode=RBAC",  # the administrator may all
            "--service-cluster-ip-range=10.223.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._key}",
            f"--service-account-key-file={self._key}",
            "--kubelet-preferred-address-types=InternalIP",
            *([gates] if self.release >= (1, 33) else []),
        )
        self._wait(self._ready, "kube-apiserver")
        client = (f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0")
        keys = (f"--service-account-private-key-file={self._key}", f"--root-ca-file={self._certificate}")
        plugins = f"{self.base}/volume-plugins"
        self._run("kube-controller-manager", *client, *keys, f"--flex-volume-plugin-dir={plugins}")
        self._run("kube-scheduler", *client)
        self.start_kubelet()
        self._wait(lambda: self._exists("/api/v1/namespaces/default/serviceaccounts/default"), "the service account")

    def start_kubelet(self) -> None:
        """Start kubelet and wait until its node is ready.

        Once a minute it removes dead containers but the last of each name, and takes one that is still starting for
        dead: with two kept, the one before it stays what `lastState` and `kubectl logs --previous` show.
        """
        self.kubelet_pid = self._run(
            "kubelet",
            f"--config={self.base}/kubelet.json",
            f"--kubeconfig={self.kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--root-dir={self.base}/kubelet",
            f"--cert-dir={self.base}/kubelet-pki",
            f"--volume-plugin-dir={self.base}/volume-plugins",
            "--maximum-dead-containers-per-container=2",
            *(["--container-runtime=remote"] if self.release < (1, 24) else []),
            f"--container-runtime-endpoint=unix://{self.node.socket}",
            "--v=2",
            through=self._covering_the_kernel(),
        )
        # The API still has what an earlier kubelet said of the node.
        self._wait(lambda: self._kubelet_is_healthy() and self._node_is_ready(), "kubelet")

    def _kubelet_is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen("http://127.0.0.1:10248/healthz", timeout=30) as answer:
                return bool(answer.read() == b"ok")
        except OSError:
            return False

    def kill_kubelet(self) -> None:
        """Kill it and wait until it is gone."""
        os.kill(self.kubelet_pid, signal.SIGKILL)
        until(lambda: not processes.alive(self.kubelet_pid), "kubelet to end")

    def _wait(self, holds: Any, what: str) -> None:
        try:
            until(holds, what, timeout_s=START_TIMEOUT_S, every_s=0.2)
        except AssertionError:
            for log in sorted(self.base.glob("*.log")):
                print(f"{log.name}:", *log.read_text(errors="replace").splitlines()[-15:], sep="\n  ")
            raise

    def _exists(self, path: str) -> bool:
        try:
            return bool(self.get(path))
        except (Refused, OSError):
            return False

    def _ready(self) -> bool:
        try:
            return bool(self._request("GET", "/readyz").read() == b"ok")
        except (Refused, OSError):
            return False

    def _node_is_ready(self) -> bool:
        path = f"/api/v1/nodes/{NAME}"
        if not self._exists(path):
            return False
        node = self.get(path)
        conditions = {one["type"]: one["status"] for one in node["status"].get("conditions", [])}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

    def _request(self, method: str, path: str, body: Object | None = None) -> Any:
        request = urllib.request.Request(f"{SERVER}{path}", method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            return urllib.request.urlopen(request, context=self._tls, timeout=30)
        except urllib.error.HTTPError as error:
            raise Refused(error.code, error.read().decode(errors="replace")) from None

    def get(self, path: str) -> Object:
        """An object, or a list of objects. Raises Refused."""
        with self._request("GET", path) as answer:
            found: Object = json.load(answer)
            return found

    def create(self, wanted: Object) -> None:
        """Create an object, in the default namespace where it has one. Raises Refused."""
        group, kind = wanted["apiVersion"], wanted["kind"].lower()
        plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
        place = plural if kind == "runtimeclass" else f"namespaces/default/{plural}"
        prefix = "/api" if "/" not in group else "/apis"
        self._request("POST", f"{prefix}/{group}/{place}", wanted).close()

    def pods(self, case: str) -> list[Object]:
        """The pods that have the label `case`."""
        items: list[Object] = self.get(f"/api/v1/namespaces/default/pods?labelSelector=case={case}")["items"]
        return items

    def _kubectl(self, *args: str) -> list[str]:
        return [str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *args]

    @contextlib.contextmanager
    def forwarded(self, pod: str, port: int) -> Iterator[str]:
        """`kubectl port-forward` to a pod's port for the length of the `with`: the URL of this end."""
        argv = self._kubectl("port-forward", f"pod/{pod}", f":{port}", "--address=127.0.0.1")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={"HOME": str(self.base)}) as process:
            try:
                assert process.stdout is not None
                said = process.stdout.readline()  # Forwarding from 127.0.0.1:40001 -> 8080
                yield f"http://{said.split()[2]}/"
            finally:
                process.kill()

    def kubectl(self, *args: str, said: str = "", timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run kubectl with `said` on its standard input."""
        return subprocess.run(
            self._kubectl(*args),
            input=said,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env={"HOME": str(self.base), "PATH": os.environ["PATH"]},
        )

    def delete(self, kinds: Sequence[str], case: str) -> None:
        """Delete the objects of these kinds that have the label `case`, and wait until they are gone."""
        done = self.kubectl("delete", ",".join(kinds), "--selector", f"case={case}", "--grace-period=2")
        if done.returncode:
            raise RuntimeError(f"kubectl delete: {done.stderr}")
