"""What a container is selected by: the names that node configuration's `when` is compared with.

In a pod they are Kubernetes' own, which containerd's CRI plugin writes as annotations (`cri`); outside a pod they are
containerd's. Policy, hooks, agents and routes all ask this one value, so that none selects a container which another
passes over.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.config.model import When
from runtime.spec import edit
from runtime.spec.cri import CONTAINER_NAME, IMAGE_NAME, SANDBOX_NAMESPACE


@dataclass(frozen=True, slots=True)
class Identity:
    """`namespace` and `container` are Kubernetes' names in a pod, else containerd's namespace and container id.

    `image` is "" where no CRI named it.
    """

    namespace: str
    image: str
    container: str

    @classmethod
    def of(cls, spec: Mapping[str, Any], *, namespace: str, container_id: str) -> "Identity":
        """Read it from the annotations of `spec`. `namespace` and `container_id` are containerd's.

        Raises InvalidArgument where they are no strings.
        """
        found = edit.annotations(spec)
        return cls(
            found.get(SANDBOX_NAMESPACE, namespace),
            found.get(IMAGE_NAME, ""),
            found.get(CONTAINER_NAME, container_id),
        )

    def selects(self, when: When, mode: str | None) -> bool:
        """Whether `when` selects it in `mode`; None: whatever the mode, as the container gets none."""
        return when.selects(mode=mode, namespace=self.namespace, image=self.image, container=self.container)
