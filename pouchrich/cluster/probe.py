"""A pod of a mode, run on this node by its kubelet: whether PID 1 is the mode's init and the exit status is right."""

import hashlib
import time
from typing import Any

from pouchrich.cluster.kubectl import Kubectl
from pouchrich.node import InstallError
from runtime.config.annotations import PREFIX

RUNTIME_CLASS = "pouchrich-probe"
"""Of our handler, on any node: pods of the other classes go where a probe has labelled the node."""

INITS = {"dumb-init": "dumb-init", "systemd": "systemd", "sbin-init": "init"}
"""Mode to what its PID 1 is called; for sbin-init by an image whose init is busybox's."""

PATIENCE_S = 180.0
_CONTAINER = "probe"
_STATUS = 7
_POLL_S = 1.0
_NAME = 40


def run(api: Kubectl, mode: str, image: str) -> None:
    """Raises InstallError, saying what the pod came to, where it is not as it should be. Leaves no pod."""
    name = name_of(mode, api.node)
    api.delete(name)  # of a run that was killed
    api.create(manifest(name, api, mode, image))
    try:
        found = _ended(api, name)
    finally:
        api.delete(name)
    judge(mode, found)


def judge(mode: str, pod: dict[str, Any]) -> None:
    """Raises InstallError unless a pod has ended as a probe should."""
    status, one = pod.get("status", {}), _container(pod)
    ended = one.get("state", {}).get("terminated", {})
    found = (ended.get("exitCode"), (ended.get("message") or "").strip())
    if found == (_STATUS, INITS[mode]):
        return
    waiting = one.get("state", {}).get("waiting", {})
    words = [status.get("phase", "no status"), status.get("reason"), status.get("message")]
    words += [waiting.get("reason"), waiting.get("message"), ended.get("reason"), ended.get("message")]
    why = ": ".join(str(word).strip() for word in words if word)
    raise InstallError(f"the probe pod of mode {mode} did not run: {why}")


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    """The status of the probe's own container: an admission webhook may have given its pod others."""
    statuses: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in statuses if one.get("name") == _CONTAINER), {})


def name_of(mode: str, node: str) -> str:
    """The same for each run on a node: what one leaves that is killed, the next one finds."""
    return f"probe-{mode}-{hashlib.sha256(node.encode()).hexdigest()[:8]}-{node.replace('.', '-')}"[:_NAME].rstrip("-")


def manifest(name: str, api: Kubectl, mode: str, image: str) -> dict[str, Any]:
    """The pod."""
    container = {
        "name": _CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", f"cat /proc/1/comm >/dev/termination-log; exit {_STATUS}"],
        "resources": {"limits": {"cpu": "1", "memory": "256Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": api.namespace,
            "labels": {"app.kubernetes.io/name": "pouchrich-probe"},
            "annotations": {f"{PREFIX}mode.{_CONTAINER}": mode},
        },
        "spec": {
            "nodeName": api.node,
            "runtimeClassName": RUNTIME_CLASS,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(PATIENCE_S),
            "terminationGracePeriodSeconds": 10,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }


def _ended(api: Kubectl, name: str) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while True:
        found = api.pod(name)
        is_over = found.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if is_over or "terminated" in _container(found).get("state", {}) or time.monotonic() > end:
            return found
        time.sleep(_POLL_S)
