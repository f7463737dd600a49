"""The decision about a container: what the image and the node are like, then the plan, then what is beside it.

Nothing is changed here. What looks does not decide, and what decides (`runtime.plan`, `runtime.besides`) does not look.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime import besides, host, image, libexec, plan
from runtime.agents import mounts
from runtime.besides import Besides
from runtime.config import Config
from runtime.config.model import When
from runtime.plan import Choice, Plan
from shim.task.lxcfs import alive_files
from shim.task.reaper import Reaper

CONTAINER_NAME = "io.kubernetes.cri.container-name"
SANDBOX_NAMESPACE = "io.kubernetes.cri.sandbox-namespace"
IMAGE_NAME = "io.kubernetes.cri.image-name"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a container is selected by. Kubernetes' names where it is in a pod, else containerd's."""

    namespace: str
    image: str
    container: str

    @classmethod
    def of(cls, spec: Mapping[str, Any], *, namespace: str, container_id: str) -> "Identity":
        """Read it from the annotations that CRI writes."""
        found = spec.get("annotations") or {}
        return cls(
            found.get(SANDBOX_NAMESPACE, namespace),
            found.get(IMAGE_NAME, ""),
            found.get(CONTAINER_NAME, container_id),
        )

    def selects(self, when: When, mode: str) -> bool:
        """Whether `when` selects it in `mode`."""
        return when.selects(mode=mode, namespace=self.namespace, image=self.image, container=self.container)


@dataclass(frozen=True, slots=True)
class Decided:
    """`made` holds the steps of both; `more` is what is beside init and application, nothing in a plain container."""

    made: Plan
    more: Besides
    identity: Identity


async def decide(
    spec: dict[str, Any],
    choice: Choice,
    config: Config,
    *,
    root: str,
    terminal: bool,
    run_dir: str,
    identity: Identity,
    reaper: Reaper,
) -> Decided:
    """Decide about the container of `spec`, whose root file system is at host path `root`.

    Raises InvalidArgument, Unsupported, FailedPrecondition where a helper binary is missing, OSError.
    """
    if not choice.rich:
        return Decided(plan.make(spec, config=config, facts=None, terminal=terminal), Besides(), identity)
    facts = image.read_facts(root, spec, choice.services)
    made = plan.make(spec, config=config, facts=facts, terminal=terminal, host=host.read(), run_dir=run_dir)
    if not made.rich or made.mode is None:
        return Decided(made, Besides(), identity)
    for helper in made.helpers:
        libexec.path(helper)
    mode, boot = made.mode, made.boot
    lxcfs_seen = await alive_files(reaper) if config.rich.lxcfs is not False else (False, ())
    seen = besides.look(root, spec, config, lxcfs_seen=lxcfs_seen)
    more = besides.make(
        spec,
        config=config,
        mode=mode,
        selects=lambda when: identity.selects(when, mode),
        units=boot is not None and boot.init == "systemd" and boot.launch is not None,
        seen=seen,
        points=plan.mount_points(spec, facts),
        run_dir=run_dir,
    )
    selected = besides.selected(config, lambda when: identity.selects(when, mode), seen)
    mounts.check_sources(selected, source=config.source)
    whole = replace(
        made,
        steps=(*made.steps, *more.steps),
        warnings=(*made.warnings, *more.warnings),
        boot=None if boot is None else replace(boot, files=(*boot.files, *more.files)),
    )
    return Decided(whole, more, identity)


def root_of(spec: Mapping[str, Any], bundle: str) -> str:
    """The host directory of the container's root file system; a relative path is below the bundle."""
    root = spec.get("root")
    named = root.get("path") if isinstance(root, dict) else None
    return os.path.join(bundle, named if isinstance(named, str) else "rootfs")
