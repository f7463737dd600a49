"""The names that select a container: what the `when` of the node configuration is compared with.

In a pod they are Kubernetes' names, which containerd's CRI plugin writes as annotations (`cri`); outside a pod they are
containerd's. Policy, hooks, agents and routes all use this one value, so they cannot disagree on which container is
meant.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from runtime.config.model import When
from runtime.spec import edit
from runtime.spec.cri import CONTAINER_NAME, IMAGE_NAME, SANDBOX_NAMESPACE


class Identity(NamedTuple):
    """`namespace` and `container` are Kubernetes' names in a pod, else containerd's namespace and container id.

    `image` is "" where no CRI named it.
    """

    namespace: str
    image: str
    container: str

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, namespace: str, container_id: str) -> "Identity":
        """Read the identity from the annotations of `spec`. `namespace` and `container_id` are containerd's.

        Raises InvalidArgument where an annotation is no string.
        """
        found = edit.annotations(spec)
        return cls(
            found.get(SANDBOX_NAMESPACE, namespace),
            found.get(IMAGE_NAME, ""),
            found.get(CONTAINER_NAME, container_id),
        )

    def selects(self, when: When, mode: str | None) -> bool:
        """Whether `when` selects this container in `mode`; None: whatever the mode, because the container has none."""
        return when.selects(mode=mode, namespace=self.namespace, image=self.image, container=self.container)
