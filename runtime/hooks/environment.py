"""What a hook is told: fixed variables, and the OCI state on its standard input. Pure.

A hook on the host gets a pod's text only on its standard input. The two names among the variables are passed only if
they have the form of Kubernetes names.
"""

import json
import re
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from runtime.default_path import DEFAULT_PATH

KILLED = 128 + signal.SIGKILL
START_FAILED = 128
"""The exit code that containerd's CRI reports for a container that could not be started."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class HookSubject:
    """The container that hooks are for.

    `id` and `containerd_namespace` are containerd's. `name` and `namespace` are Kubernetes'; outside a pod they are
    containerd's, too. `bundle` and `rootfs` are host paths.
    """

    id: str
    containerd_namespace: str
    bundle: str
    rootfs: str
    name: str
    namespace: str
    mode: str
    annotations: Mapping[str, str]
    oci_version: str = "1.0.2"

    def to_dict(self) -> dict[str, Any]:
        """The subject as a JSON object."""
        return {**asdict(self), "annotations": dict(self.annotations)}


class Ending(NamedTuple):
    """How a container ended, as poststop hooks are told. For `reason` see `ending` and the constants here."""

    exit_code: int
    reason: str


SHIM_KILLED = Ending(KILLED, "ShimKilled")
NEVER_STARTED = Ending(START_FAILED, "StartFailed")


def ending(status: int, *, oom_killed: bool = False) -> Ending:
    """The ending of a container whose exit status is `status`, 128 + n for signal n."""
    if oom_killed:
        return Ending(status, "OOMKilled")
    if status == 0:
        return Ending(0, "Completed")
    return Ending(status, "Signal" if 128 < status <= 128 + signal.SIGRTMAX else "Error")


def variables(subject: HookSubject, end: Ending | None = None) -> dict[str, str]:
    """The POUCHRICH_ variables of a hook, on the host and in the container alike; `end` is for poststop."""
    found = {
        "POUCHRICH_NAME": _name(subject.name) or subject.id,
        "POUCHRICH_NAMESPACE": _name(subject.namespace) or subject.containerd_namespace,
        "POUCHRICH_MODE": subject.mode,
    }
    if end is not None:
        found |= {"POUCHRICH_EXIT_CODE": str(end.exit_code), "POUCHRICH_EXIT_REASON": end.reason}
    return found


def host_environment(own: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a hook on the host: `own` is from its table, `env` from `variables`."""
    return {"PATH": DEFAULT_PATH, **own, **env}


def state(subject: HookSubject, *, status: str, pid: int) -> bytes:
    """The OCI state (runtime-spec, runtime.md) as JSON, without `pid` where there is no process."""
    found: dict[str, Any] = {"ociVersion": subject.oci_version, "id": subject.id, "status": status}
    if pid:
        found["pid"] = pid
    return json.dumps({**found, "bundle": subject.bundle, "annotations": dict(subject.annotations)}).encode()


def _name(text: str) -> str:
    return text if _NAME.fullmatch(text) else ""
