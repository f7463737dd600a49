"""Kubernetes objects of the checks: pods of one image, by who runs them and their application's script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration import images
from tests.integration.rich_images import System

SYSTEMD = System("systemd")
Object = dict[str, Any]

HANDLERS = {"pouchrich": "pouchrich-rich", "pouchrich-systemd": "pouchrich-test", "pouchrich-node": "pouchrich-node"}
"""RuntimeClass -> handler (`tests.integration.configuration`). Without a class a pod gets containerd's own shim."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to run a container: `init` is its PID 1's name, `parent` the pid of the application's parent."""

    name: str
    runtime_class: str | None
    init: str
    parent: str = "1"
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_rich(self) -> bool:
        return self.runtime_class is not None


PLAIN = Kind("runc.v2", None, "sh", parent="0")
DUMB_INIT = Kind("dumb-init", "pouchrich", "dumb-init")
SYSTEMD_BY_ANNOTATION = Kind("systemd", "pouchrich", "systemd", annotations={"pouchrich.io/mode.app": "systemd"})
SYSTEMD_BY_HANDLER = Kind("systemd handler", "pouchrich-systemd", "systemd")
NODE = Kind("node's handler", "pouchrich-node", "dumb-init")
NODE_SYSTEMD = Kind("node's systemd", "pouchrich-node", "systemd", annotations={"pouchrich.io/mode.app": "systemd"})
"""By a handler without a table `options`, the one kind of which containerd asks what its runtime can."""

KINDS = (PLAIN, DUMB_INIT, SYSTEMD_BY_ANNOTATION)

GRACE_S = 20
LIVE = "while :; do sleep 0.2; done"
START = 'echo "$(cat /proc/1/comm) $PPID $(cut -d " " -f 22 /proc/1/stat)" >>/shared/starts\n'
"""One line a start: PID 1's name, the application's parent, and when PID 1 started."""


def runtime_class(name: str, handler: str) -> Object:
    return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": handler}


def container(script: str, name: str = "app", image: str = SYSTEMD.reference, **more: Any) -> Object:
    """A container that runs a shell script, with the case's directory at /shared."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        **more,
    }


def busybox(script: str, name: str) -> Object:
    return container(script, name, images.BUSYBOX)


def template(
    kind: Kind,
    case: str,
    shared: Path,
    containers: Sequence[Object],
    policy: str = "Always",
    annotations: Mapping[str, str] | None = None,
    **more: Any,
) -> Object:
    """What a pod, a Deployment and a Job have in common. Its grace period is GRACE_S unless `more` has another."""
    return {
        "metadata": {"labels": {"case": case}, "annotations": {**kind.annotations, **(annotations or {})}},
        "spec": {
            "runtimeClassName": kind.runtime_class,
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": GRACE_S,
            "containers": list(containers),
            "volumes": [{"name": "shared", "hostPath": {"path": str(shared), "type": "Directory"}}],
            **more,
        },
    }


def pod(name: str, of: Object) -> Object:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **of["metadata"]}, "spec": of["spec"]}


def deployment(name: str, of: Object) -> Object:
    labels = of["metadata"]["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": of},
    }


def job(name: str, of: Object, **more: Any) -> Object:
    labels = of["metadata"]["labels"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {"template": of, **more},
    }
