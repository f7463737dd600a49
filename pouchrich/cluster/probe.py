"""Runs a pod of a mode on this node through its kubelet, and checks that PID 1 is the mode's init and the exit status.

A mode fails its probe in two cases only: the container ran and had another PID 1 or exit status; or the shim refused to
create or start the task. For the latter, containerd's CRI plugin reports an error of StartContainer in its own words
(internal/cri/server/container_start.go), which the kubelet shows as RunContainerError, or as StartError once it has
given up. Anything else that keeps the pod from completing is a matter of the node, and the mode is not judged:

- `status.reason` of the pod is set: the kubelet did not admit it (OutOf*, UnexpectedAdmissionError, NodeAffinity and
  other reasons of pkg/kubelet/lifecycle), or ended it (Evicted, Preempting, NodeShutdown, Terminated,
  DeadlineExceeded); a pod whose container failed has no reason. Likewise a pod that somebody deletes.
- containerd could not create the container, for lack of disk space or its image for example (CreateContainerError), or
  not start it because its sandbox or log was gone: the shim was not asked.
- The container waits for something else: its image, a Secret (CreateContainerConfigError), its sandbox
  (ContainerCreating, while volumes and network are set up); or it still runs.
- The container's end was not seen: ContainerStatusUnknown by the kubelet, Unknown by containerd.
- The runtime did not answer the kubelet in time, or went away.
- The API server does not accept the pod, or does not answer.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pouchrich.cluster.kubectl import Kubectl
from pouchrich.node import InstallError
from runtime.config.annotations import PREFIX

RUNTIME_CLASS = "pouchrich-probe"
"""A RuntimeClass with our handler for any node; the other classes select nodes that a probe has labelled."""

INITS = {"dumb-init": "dumb-init", "systemd": "systemd", "sbin-init": "init"}
"""Mode -> the name of PID 1; for sbin-init with an image whose init is busybox's."""

PATIENCE_S = 180.0
_DEADLINE_S = 240
"""The pod's deadline, in case our run is killed. Later than our last look, because it hides why a pod failed."""

_NOT_STARTED = ("RunContainerError", "StartError", "ContainerCannotRun")
_BY_THE_SHIM = ("failed to create containerd task", "failed to start containerd task")
_UNSEEN = ("ContainerStatusUnknown", "Unknown")
_NO_ANSWER = (
    *("context deadline exceeded", "failed to reserve container name"),  # the latter: the earlier request still runs
    *("error reading from server", "transport is closing", "connection error: desc"),
)
"""Texts in the kubelet's message when the runtime did not answer a request (grpc-go's clientconn.go, transport)."""

_CONTAINER = "probe"
_STATUS = 7
_POLL_S = 1.0
_NAME = 40


class Fails(InstallError):
    """The mode was judged, and does not work on this node."""


def run(
    api: Kubectl,
    mode: str,
    image: str,
    *,
    secrets: Sequence[Mapping[str, str]] = (),
    owner: Mapping[str, Any] | None = None,
) -> None:
    """Raises Fails where the mode does not work, another InstallError where it was not judged. Leaves no pod behind.

    `secrets` are the pod's `imagePullSecrets`, objects with a `name`, which the kubelet uses to pull `image`. `owner`
    is the API's object of the pod that this runs in, None outside of one.
    """
    name = name_of(mode, api.node)
    api.delete(name)  # left by a run that was killed
    api.create(manifest(name, api, mode, image, secrets, owner))
    try:
        found = _ended(api, name)
    finally:
        api.delete(name)
    judge(mode, found)


def judge(mode: str, pod: dict[str, Any]) -> None:
    """Raises Fails if a pod has ended differently than a probe of this mode should, another InstallError if it was not
    judged.

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
    """Whether a pod that failed, given its container's states, counts against its mode."""
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
    """The status of the probe's own container: an admission webhook may have added others to the pod."""
    statuses: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses") or []
    return next((one for one in statuses if one.get("name") == _CONTAINER), {})


def name_of(mode: str, node: str) -> str:
    """The pod's name: the same for each run on a node, so that a run finds the pod of a killed one."""
    return f"probe-{mode}-{hashlib.sha256(node.encode()).hexdigest()[:8]}-{node.replace('.', '-')}"[:_NAME].rstrip("-")


def manifest(
    name: str,
    api: Kubectl,
    mode: str,
    image: str,
    secrets: Sequence[Mapping[str, str]] = (),
    owner: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The pod object. The pod has no token, and uses no Secrets but those for pulling its image (`run`).

    `owner` controls it: kubectl drain refuses a node with a pod that nothing controls, and once the owner is gone, the
    garbage collector deletes the pod.
    """
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
            **({"ownerReferences": [_controlled_by(owner["metadata"])]} if owner else {}),
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


def _controlled_by(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The reference to a controlling pod with this metadata."""
    return {"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"], "controller": True}


def _ended(api: Kubectl, name: str) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while True:
        found = api.pod(name)
        is_over = found.get("status", {}).get("phase") in ("Succeeded", "Failed")
        if is_over or "terminated" in _container(found).get("state", {}) or time.monotonic() > end:
            return found
        time.sleep(_POLL_S)
