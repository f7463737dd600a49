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


class Inspection(NamedTuple):
    """What `inspect_image` has seen: `facts` for the plan, `seen` for the extras."""

    facts: ImageFacts
    seen: ExtrasFacts


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
    facts = looked.facts
    host_facts = host_facts or host.read()
    if systemd_cgroup is not None:
        host_facts = host_facts._replace(systemd=systemd_cgroup)
    made = plan.make(spec, choice, config=config, facts=facts, terminal=terminal, host=host_facts, run_dir=run_dir)
    if not made.rich or made.mode is None:
        return Decided(made, Extras())
    boot = made.boot
    scarce = _require(made, config)
    beside = extras.make(
        confinement.spec_with_profile(spec, made.apparmor),
        config=config,
        mode=made.mode,
        selects=partial(choice.identity.selects, mode=made.mode),
        units=boot is not None and boot.kind.has_units and boot.launch is not None,
        seen=await _with_lxcfs(looked.seen, config, reaper),
        points=plan.mount_points(spec, facts),
        run_dir=run_dir,
        boot=boot,
        systemd_version=facts.init.version,
    )
    await _check_sources(beside, config)
    whole = replace(
        made,
        steps=(*made.steps, *beside.steps),
        warnings=(*made.warnings, *beside.warnings, *scarce),
        boot=None if boot is None else replace(boot, files=(*boot.files, *beside.files)),
    )
    return Decided(whole, beside, facts.command.hidden_by is not None)


def _require(made: Plan, config: Config) -> tuple[str, ...]:
    """Raise where the node lacks what the plan needs; return warnings about what it has little of."""
    if made.apparmor:
        apparmor.require(made.apparmor, source=config.key_and_source(confinement.KEY))
    for helper in made.helpers:
        libexec.path(helper)
    if made.boot is None or not made.boot.kind.uses_inotify or os.geteuid() != 0:  # another user's limit tells nothing
        return ()
    left, source = inotify.instances_left(), config.source_of("rich.inotify")
    return inotify.warn_or_refuse(left, config.rich.inotify, source=source)


async def _with_lxcfs(seen: ExtrasFacts, config: Config, reaper: Reaper) -> ExtrasFacts:
    if config.rich.lxcfs is False:
        return seen
    is_mounted, files = await alive_files(reaper)
    return replace(seen, lxcfs_mounted=is_mounted, lxcfs_files=files)


async def _check_sources(beside: Extras, config: Config) -> None:
    """Check the files of the node that agents mount. Raises as `mounts.check_sources`, or where nothing answers."""
    if paths := sorted({mount.source for one in beside.chosen for mount in one.agent.mounts}):
        check = partial(mounts.check_sources, beside.chosen, source=config.source)
        await answered(check, what=f"{config.source}: agents: {', '.join(paths)}", patience_s=NODE_PATIENCE_S)


def inspect_image(root: str, spec: dict[str, Any], choice: Choice, config: Config) -> Inspection:
    """Examine the image at host path `root` once.

    The image may be hostile, and its file system may not answer: call this outside an event loop's thread. Raises
    InvalidArgument.
    """
    with Rootfs.open(root) as one:
        facts = image.facts_of(one, spec, choice.services)
        return Inspection(facts, extras.inspect(one, spec, config, units=bool(facts.init.systemd)))


def root_of(spec: Mapping[str, Any], bundle: str) -> str:
    """The host directory of the container's root file system; a relative path is below the bundle."""
    root = spec.get("root")
    named = root.get("path") if isinstance(root, dict) else None
    return os.path.join(bundle, named if isinstance(named, str) else "rootfs")
