"""The grace period of a pod that is being stopped, as Kubernetes tells a container runtime."""

from collections.abc import Mapping

from runtime.spec.cri import GRACE_PERIOD

MOST_DIGITS = 9
"""The most digits that are accepted: some thirty years."""


def grace_s(annotations: Mapping[str, str]) -> float | None:
    """The pod's grace period in seconds, written by the kubelet, if containerd passes the annotation on; else None.

    None also for text that is no whole number, and for more than MOST_DIGITS: a handler may let pods write the
    annotation.
    """
    text = annotations.get(GRACE_PERIOD, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None
