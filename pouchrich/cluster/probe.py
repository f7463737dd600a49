"""A pod of a mode, run on this node by its kubelet: whether PID 1 is the mode's init and the exit status is right.

What a probe says against its mode is one of two things: its container ran and had another PID 1 or exit status, or
the shim refused to create or start its task, which containerd's CRI asks for in StartContainer and tells in words of
its own (internal/cri/server/container_start.go): kubelet's RunContainerError, or StartError once that was given up.
Whatever else keeps a pod from its end is of the node's circumstances, and the mode is not judged by it:

- `status.reason` of the pod: kubelet admitted it not (OutOf*, UnexpectedAdmissionError, NodeAffinity and whatever else
  pkg/kubelet/lifecycle knows), or ended it (Evicted, Preempting, NodeShutdown, Terminated, DeadlineExceeded); a pod
  that failed by its container has none. Likewise a pod that somebody deletes.
- A container that containerd could not make, for want of disk or of its image say (CreateContainerError), or not
  start, as its sandbox or log was gone: the shim was not asked.
- A container that waits for something else: for its image, for a Secret (CreateContainerConfigError), for its sandbox
  (ContainerCreating: volumes and network are made then), or that still runs.
- A container that ended while nobody looked: ContainerStatusUnknown by kubelet, Unknown by containerd.
- A runtime that did not answer kubelet in time, or went away meanwhile.
- The API server, where it takes no pod or does not answer.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pouchrich.cluster.kubectl import Kubectl
from pouchrich.node import InstallError
from runtime.config.annotations import PREFIX

RUNTIME_CLASS = "pouchrich-probe"
"""Of our handler, on any node: pods of the other classes go where a probe has labelled the node."""

INITS = {"dumb-init": "dumb-init", "systemd": "systemd", "sbin-init": "init"}
"""Mode to what its PID 1 is called; for sbin-init by an image whose init is busybox's."""

PATIENCE_S = 180.0
_DEADLINE_S = 240
"""After which kubelet ends one whose run was killed: later than a run looks for the last time, as it hides why."""

_NOT_STARTED = ("RunContainerError", "StartError", "ContainerCannotRun")
_BY_THE_SHIM = ("failed to create containerd task", "failed to start containerd task")
_UNSEEN = ("ContainerStatusUnknown", "Unknown")
_NO_ANSWER = (
    *("context deadline exceeded", "failed to reserve container name"),  # the latter of a request that is still at work
    *("error reading from server", "transport is closing", "connection error: desc"),
)
"""In the message of a request of kubelet's that the runtime did not answer (grpc-go's clientconn.go, transport)."""

_CONTAINER = "probe"
_STATUS = 7
_POLL_S = 1.0
_NAME = 40


class Fails(InstallError):
    """The mode was judged, and does not do on this node."""


def run(api: Kubectl, mode: str, image: str, *, secrets: Sequence[Mapping[str, str]] = ()) -> None:
    """Raises Fails where the mode does not do, another InstallError where it was not judged. Leaves no pod.

    `secrets` are the pod's `imagePullSecrets`, objects with a `name`: kubelet pulls `image` by them.
    """
    name = name_of(mode, api.node)
    api.delete(name)  # of a run that was killed
    api.create(manifest(name, api, mode, image, secrets))
    try:
        found = _ended(api, name)
    finally:
        api.delete(name)
    judge(mode, found)


def judge(mode: str, pod: dict[str, Any]) -> None:
    """Raises Fails where a pod has ended otherwise than a probe of this mode, another InstallError where it has not.

    `pod` is the API's object.
    """
    status, one = pod.get("status", {}), _container(pod)
    ended = one.get("state", {}).get("terminated", {})
    found = (ended.get("exitCode"), (ended.get("message") or "").strip())
    if found == (_STATUS, INITS[mode]):
        return
    waiting = one.get("state", {}).get("waiting", {})
    words = [status.get("phase", "no status"), status.get("reason"), status.get("message")]
    words += [waiting.get("reason"), waiting.get("message"), ended.get("reason"), ended.get("message")]
    why = ": ".join(str(word).strip() for word in words if word)
    error = Fails if _is_of_the_mode(pod, ended, waiting) else InstallError
    raise error(f"the probe pod of mode {mode} did not run: {why}")


def _is_of_the_mode(pod: dict[str, Any], ended: dict[str, Any], waiting: dict[str, Any]) -> bool:
    """Whether a pod that is not right, with its container's states, says something of its mode."""
    if pod.get("status", {}).get("reason") or pod.get("metadata", {}).get("deletionTimestamp"):
        return False
    state = ended or waiting
    message = state.get("message") or ""
    if any(words in message for words in _NO_ANSWER):
        return False
    if state.get("reason") in _NOT_STARTED:
        return any(words in message for words in _BY_THE_SHIM)
    return bool(ended) and ended.get("reason") not in _UNSEEN


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    """The status of the probe's own container: an admission webhook may have given its pod others."""
    statuses: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in statuses if one.get("name") == _CONTAINER), {})


def name_of(mode: str, node: str) -> str:
    """The same for each run on a node: what one leaves that is killed, the next one finds."""
    return f"probe-{mode}-{hashlib.sha256(node.encode()).hexdigest()[:8]}-{node.replace('.', '-')}"[:_NAME].rstrip("-")


def manifest(
    name: str, api: Kubectl, mode: str, image: str, secrets: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """The pod. It has no token, and of the namespace's Secrets those alone that its image is pulled by (`run`)."""
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
            "activeDeadlineSeconds": _DEADLINE_S,
            "terminationGracePeriodSeconds": 10,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            **({"imagePullSecrets": list(secrets)} if secrets else {}),
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
