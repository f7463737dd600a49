"""Decides about a container: examines the image and the node, makes the plan, and adds agents, routes and lxcfs.

Nothing is changed here. The code that looks does not decide, and the code that decides (`runtime.rich.plan`,
`runtime.rich.extras`) does not look.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from runtime import host, inotify, libexec
from runtime.agents import mounts
from runtime.config import Config
from runtime.image import image
from runtime.image.image import ImageFacts, Rootfs
from runtime.linux import apparmor
from runtime.rich import confinement, extras, plan
from runtime.rich.extras import Extras, ExtrasFacts
from runtime.rich.plan import Plan
from runtime.rich.policy import Choice
from shim.task.reaper import Reaper
from shim.task.rich.lxcfs import alive_files
from shim.task.thread import NODE_PATIENCE_S, answered

Inspection = tuple[ImageFacts, ExtrasFacts]
"""What `inspect_image` returns."""


class Decided(NamedTuple):
    """`plan` is the plan with all steps; `extras` is what runs beside init and application, nothing if plain.

    `command_hidden`: the command lies below a mount of the pod, where nobody has looked for it.
    """

    plan: Plan
    extras: Extras
    command_hidden: bool = False


async def decide(
    spec: dict[str, Any],
    choice: Choice,
    config: Config,
    *,
    looked: Inspection | None,
    terminal: bool,
    run_dir: str,
    reaper: Reaper,
    host_facts: host.HostFacts | None = None,
    systemd_cgroup: bool | None = None,
) -> Decided:
    """Decide about the container of `spec`.

    `looked` is the result of `inspect_image`, None only where `choice` is not rich.

    `host_facts` is the result of `host.read` for this request; None: it is read here where needed. `systemd_cgroup`
    says whether the OCI runtime has systemd make the cgroups; None: it does so where the host has systemd.

    Raises InvalidArgument, Unsupported, FailedPrecondition where a helper binary, inotify instances or an AppArmor
    profile are missing, OSError.
    """
    if not choice.rich or looked is None:
        return Decided(plan.make(spec, choice, config=config, facts=None, terminal=terminal), Extras())
    facts, seen = looked
    if host_facts is None:
        host_facts = host.read()
    if systemd_cgroup is not None:
        host_facts = host_facts._replace(systemd=systemd_cgroup)
    made = plan.make(spec, choice, config=config, facts=facts, terminal=terminal, host=host_facts, run_dir=run_dir)
    if not made.rich or made.mode is None:
        return Decided(made, Extras())
    if made.apparmor:
        apparmor.require(made.apparmor, source=config.key_and_source(confinement.KEY))
    for helper in made.helpers:
        libexec.path(helper)
    mode, boot = made.mode, made.boot
    scarce: tuple[str, ...] = ()
    if boot is not None and boot.kind.uses_inotify and os.geteuid() == 0:  # another user's limit would tell nothing
        scarce = inotify.warn_or_refuse(
            inotify.instances_left(), config.rich.inotify, source=config.source_of("rich.inotify")
        )
    if config.rich.lxcfs is not False:
        is_mounted, files = await alive_files(reaper)
        seen = replace(seen, lxcfs_mounted=is_mounted, lxcfs_files=files)
    units = boot is not None and boot.kind.has_units and boot.launch is not None
    more = extras.make(
        confinement.spec_with_profile(spec, made.apparmor),
        config=config,
        mode=mode,
        selects=partial(choice.identity.selects, mode=mode),
        units=units,
        seen=seen,
        points=plan.mount_points(spec, facts),
        run_dir=run_dir,
        boot=boot,
        systemd_version=facts.init.version,
    )
    if paths := sorted({mount.source for one in more.chosen for mount in one.agent.mounts}):
        check = partial(mounts.check_sources, more.chosen, source=config.source)
        await answered(check, what=f"{config.source}: agents: {', '.join(paths)}", patience_s=NODE_PATIENCE_S)
    whole = replace(
        made,
        steps=(*made.steps, *more.steps),
        warnings=(*made.warnings, *more.warnings, *scarce),
        boot=None if boot is None else replace(boot, files=(*boot.files, *more.files)),
    )
    return Decided(whole, more, facts.command.hidden_by is not None)


def inspect_image(root: str, spec: dict[str, Any], choice: Choice, config: Config) -> Inspection:
    """Examine the image at host path `root` once.

    The image may be hostile, and its file system may not answer: call this outside an event loop's thread. Raises
    InvalidArgument.
    """
    with Rootfs.open(root) as one:
        facts = image.facts_of(one, spec, choice.services)
        return facts, extras.inspect(one, spec, config, units=bool(facts.init.systemd))


def root_of(spec: Mapping[str, Any], bundle: str) -> str:
    """The host directory of the container's root file system; a relative path is below the bundle."""
    root = spec.get("root")
    named = root.get("path") if isinstance(root, dict) else None
    return os.path.join(bundle, named if isinstance(named, str) else "rootfs")
