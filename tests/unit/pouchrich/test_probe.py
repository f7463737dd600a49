"""pouchrich.cluster.probe: which ends of a probe pod speak of the mode, and which of the node's circumstances."""

from typing import Any

import pytest

from pouchrich.cluster import probe
from pouchrich.node import InstallError


def pod(state: dict[str, Any] | None = None, /, **status: Any) -> dict[str, Any]:
    """A pod as the API has it, its container in `state`."""
    statuses = [] if state is None else [{"name": "probe", "state": state}]
    return {"metadata": {}, "status": {"phase": "Failed", "containerStatuses": statuses, **status}}


def ended(status: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": status, "reason": reason, "message": message}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


REFUSED = "failed to create containerd task: failed to create shim task: mode systemd: no init"


@pytest.mark.parametrize(
    "found",
    [
        pod(ended(7, "sh")),
        pod(ended(0, "systemd", "Completed"), phase="Succeeded"),
        pod(ended(137, "", "OOMKilled")),
        pod(ended(128, REFUSED, "StartError")),
        pod(waiting("RunContainerError", REFUSED), phase="Pending"),
    ],
    ids=str,
)
def test_a_container_that_ran_wrongly_or_was_refused_by_the_runtime_speaks_against_its_mode(found: dict[str, Any]):
    with pytest.raises(probe.Fails, match="the probe pod of mode systemd did not run: "):
        probe.judge("systemd", found)


@pytest.mark.parametrize(
    "found",
    [
        *(
            pod(reason=reason, message="Pod was rejected")
            for reason in (
                *("OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage", "UnexpectedAdmissionError"),
                *("NodeAffinity", "NodeShutdown", "Evicted", "Preempting", "TopologyAffinityError", "SysctlForbidden"),
            )
        ),
        pod(reason="DeadlineExceeded"),
        pod(ended(137), reason="DeadlineExceeded"),
        pod(ended(143), reason="Terminated", message="Pod was terminated in response to imminent node shutdown."),
        pod(ended(137), reason="Evicted", message="The node was low on resource: memory."),
        pod(ended(137, "The container could not be located", "ContainerStatusUnknown")),
        pod(ended(255, "", "Unknown")),
        {**pod(ended(143)), "metadata": {"deletionTimestamp": "2026-11-30T06:00:00Z"}},
        *(
            pod(waiting(reason, "pull access denied"), phase="Pending")
            for reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
        ),
        pod(waiting("CreateContainerConfigError", 'secret "x" not found'), phase="Pending"),
        pod(waiting("CreateContainerError", "context deadline exceeded"), phase="Pending"),
        pod(waiting("CreateContainerError", 'failed to reserve container name "probe"'), phase="Pending"),
        pod(waiting("CreateContainerError", "no space left on device"), phase="Pending"),
        pod(ended(128, "error reading from server: EOF", "StartError")),
        pod(ended(128, "sandbox container x is not running", "StartError")),
        pod(waiting("RunContainerError", "failed to create container logger: no such file"), phase="Pending"),
        pod(waiting("ContainerCreating"), phase="Pending"),
        pod(phase="Pending"),
        pod({"running": {}}, phase="Running"),
        {},
    ],
    ids=str,
)
def test_what_kept_a_probe_from_its_end_says_nothing_of_its_mode(found: dict[str, Any]):
    with pytest.raises(InstallError, match="the probe pod of mode systemd did not run: ") as caught:
        probe.judge("systemd", found)
    assert not isinstance(caught.value, probe.Fails)


def test_one_that_was_right_before_the_node_was_shut_down_is_right():
    probe.judge("systemd", pod(ended(7, "systemd\n"), reason="Terminated"))
