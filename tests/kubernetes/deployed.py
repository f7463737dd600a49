"""Two ways to have deploy/ in a cluster, with what is this node's: where its containerd is, and who starts it anew."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kubernetes import manifests
from tests.kubernetes.cluster import Cluster

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DAEMONSET = "daemonset/pouchrich-node"
SERVER = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
"""No kube-proxy is here."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cluster of one node, and what `pouchrich node install` has to be told of it."""

    cluster: Cluster
    namespace: str
    prefix: str
    restart: str

    @property
    def has_policy(self) -> bool:
        """Whether this Kubernetes has what deploy/components/own-node-only needs."""
        return self.cluster.release >= (1, 32)

    def checked(self, *words: str, said: str = "") -> None:
        """Run kubectl. Raises RuntimeError where it fails."""
        done = self.cluster.kubectl(*words, said=said)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr}")


class Kustomized:
    """By kubectl and the kustomizations."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def apply(self, version: str) -> None:
        """Have this version installed. Raises RuntimeError."""
        self._apply("overlays/kubeadm" if self._place.has_policy else "base", version)

    def undo(self) -> None:
        """Go back to the version of before. Raises RuntimeError."""
        self._place.checked("-n", self._place.namespace, "rollout", "undo", DAEMONSET)

    def give_back(self, version: str) -> None:
        """Have the node give all back. Raises RuntimeError."""
        self._apply("uninstall", version)

    def remove(self) -> None:
        """Remove what was made for it but the namespace, which has it all."""

    def _apply(self, directory: str, version: str) -> None:
        words = ["kubectl", "kustomize", DEPLOY / directory]
        made = subprocess.run(words, capture_output=True, text=True, check=True)
        cluster = self._place.cluster
        done = cluster.kubectl("create", "--dry-run=client", "--output=json", "-f", "-", said=made.stdout)
        decoder, at, text = json.JSONDecoder(), 0, done.stdout
        while at < len(text.rstrip()):
            one, at = decoder.raw_decode(text, at)
            at += len(text[at:]) - len(text[at:].lstrip())
            if one["kind"] == "DaemonSet":
                self._adapt(one["spec"]["template"]["spec"]["containers"][0], version)
            self._place.checked("apply", "-f", "-", said=json.dumps(one))

    def _adapt(self, container: dict[str, Any], version: str) -> None:
        place = self._place
        container["image"] = f"localhost/pouchrich-node:{version}"
        args = [f"--prefix={place.prefix}", f"--restart={place.restart}"]
        if "install" in container["args"]:
            container["args"] = [
                "--containerd=kubeadm" if one == "--containerd=auto" else one for one in container["args"]
            ]
            args += [f"--address={place.cluster.node.socket}", f"--probe=systemd={manifests.SYSTEMD.reference}"]
        container["args"] += args
        container["env"] += [{"name": name, "value": value} for name, value in SERVER.items()]


class Charted:
    """By helm and the chart."""

    NAME = "pouchrich"

    def __init__(self, place: Place, helm: str) -> None:
        self._place = place
        self._helm = helm
        self._is_there = False

    def apply(self, version: str) -> None:
        """See Kustomized."""
        place = self._place
        if not self._is_there:
            place.checked("apply", "-f", str(DEPLOY / "base/namespace.yaml"))
        values = {
            "containerd": "kubeadm",
            "image": {"tag": version},
            "probes": ["dumb-init", "sbin-init", f"systemd={manifests.SYSTEMD.reference}"],
            "prefix": place.prefix,
            "address": str(place.cluster.node.socket),
            "restart": place.restart,
            "env": SERVER,
            "ownNodeOnly": place.has_policy,
        }
        verb = "upgrade" if self._is_there else "install"
        self._run(verb, self.NAME, str(DEPLOY / "chart"), "--values", "/dev/stdin", said=json.dumps(values))
        self._is_there = True

    def undo(self) -> None:
        """See Kustomized."""
        self._run("rollback", self.NAME)

    def give_back(self, version: str) -> None:
        """See Kustomized."""
        changes = ("--set", f"uninstall=true,image.tag={version}")
        self._run("upgrade", self.NAME, str(DEPLOY / "chart"), "--reuse-values", *changes)

    def remove(self) -> None:
        """See Kustomized."""
        self._run("uninstall", self.NAME)

    def _run(self, *words: str, said: str = "") -> None:
        place = self._place
        where = ("--namespace", place.namespace, "--kubeconfig", str(place.cluster.kubeconfig))
        done = subprocess.run(
            [self._helm, *words, *where],
            input=said,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={"HOME": str(place.cluster.base)},
        )
        if done.returncode:
            raise RuntimeError(f"helm {' '.join(words)}: {done.stderr}")
