"""How long a pod that is stopped has, as Kubernetes tells a container runtime."""

from collections.abc import Mapping

from runtime.spec.cri import GRACE_PERIOD

MOST_DIGITS = 9
"""Some thirty years."""


def grace_s(annotations: Mapping[str, str]) -> float | None:
    """The pod's grace period, which kubelet writes as whole seconds, where containerd passes it on.

    None for another text, and for more than MOST_DIGITS: a handler may let pods write the annotation.
    """
    text = annotations.get(GRACE_PERIOD, "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS else None
