"""What a rich container has besides its init and its application: environment files, lxcfs, agents, routes.

The image and the node are read once, one pure function decides, and the result is values to act on:

    seen = extras.inspect(root, spec, config)                reads; the shim itself probes lxcfs and adds the result
    beside = extras.make(spec, config=config, mode=mode, selects=..., units=..., seen=seen, points=..., run_dir=...)
    the plan's steps + beside.steps, its boot's files + beside.files, its warnings + beside.warnings
    beside.env_files written by env_file.write once the run directory exists; beside.routes set before the prestart
    hooks; beside.agents supervised once the application runs
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.agents import cgroup, mounts, process, select, unit
from runtime.agents.process import Supervised
from runtime.config.model import Config, Route, When
from runtime.errors import InvalidArgument
from runtime.image import passwd
from runtime.image.image import Rootfs
from runtime.image.passwd import User
from runtime.init.base import MountPoint, bind_step, variables
from runtime.init.boot import Boot, RunFile
from runtime.init.services import GATE
from runtime.init.systemd import UNIT
from runtime.rich import environment, lxcfs, unit_claims
from runtime.rich.environment import EnvFacts, EnvFile
from runtime.spec import edit
from runtime.spec.edit import Spec, Step

_APPLICATION = (UNIT, GATE)
"""The application's units."""


@dataclass(frozen=True, slots=True)
class ExtrasFacts:
    """Facts about the image and the node. `lxcfs_*` are what `shim.task.rich.lxcfs.alive_files` found.

    `users` has, by the configuration's name for it, a User or why there is none.
    `claims` has, by unit, the path in the container that takes the place of our unit (`runtime.rich.unit_claims`).
    """

    env: EnvFacts = field(default_factory=EnvFacts)
    targets: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, User | str] = field(default_factory=dict)
    has_v2_memory: bool = False
    lxcfs_mounted: bool = False
    lxcfs_files: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Extras:
    """`env_files` go into the run directory. The shim supervises `agents`; agents as units are `files` and `steps`.

    `unit_agents` has the agents that are units, each with the path in the image that takes its unit's place, or "".
    `chosen` has all selected agents, as configured. `to_units` are the names of the variables that systemd sets for
    every unit, and that agents' units must not get.
    """

    steps: tuple[Step, ...] = ()
    files: tuple[RunFile, ...] = ()
    env_files: tuple[EnvFile, ...] = ()
    agents: tuple[Supervised, ...] = ()
    unit_agents: Mapping[str, str] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    warnings: tuple[str, ...] = ()
    chosen: tuple[select.Selected, ...] = ()
    to_units: tuple[str, ...] = ()


def inspect(root: Rootfs, spec: Spec, config: Config, *, units: bool = False) -> ExtrasFacts:
    """Read what `make` needs of the image at `root` and of the node, except lxcfs. Raises InvalidArgument.

    `units`: the image has a systemd that may be given units. Call this in a thread beside an event loop, like
    `image.facts_of`.
    """
    destinations = [posixpath.join("/", one["destination"]) for one in edit.mounts(spec)]
    leads = {one: root.walk(one).path for one in destinations}
    hiding = [path for path in leads.values() if path != "/"]
    agents = [unit.unit_name(agent.name) for agent in config.agents]
    wanted = {agent.user for agent in config.agents if agent.user is not None}
    return ExtrasFacts(
        environment.inspect(root, config.rich.env_file, hiding),
        {target: root.walk(target).path for target in select.targets(config.agents)},
        _users(root, wanted),
        cgroup.has_v2_memory(),
        claims=unit_claims.look(root, _APPLICATION, agents, edit.mounts(spec), leads) if units else {},
    )


def _users(root: Rootfs, wanted: Iterable[str]) -> dict[str, User | str]:
    found: dict[str, User | str] = {}
    for one in wanted:
        try:
            found[one] = passwd.resolve(root.fd, one)
        except InvalidArgument as err:
            found[one] = str(err)
    return found


def _resolver(seen: ExtrasFacts) -> Callable[[str], User]:
    def resolve(wanted: str) -> User:
        found = seen.users[wanted]
        if isinstance(found, str):
            raise InvalidArgument(found)
        return found

    return resolve


def make(
    spec: Spec,
    *,
    config: Config,
    mode: str,
    selects: Callable[[When], bool],
    units: bool,
    seen: ExtrasFacts,
    points: Sequence[MountPoint],
    run_dir: str,
    boot: Boot | None = None,
    systemd_version: int | None = None,
) -> Extras:
    """Decide. `spec` is containerd's, before any step; `points` are its mounts, as in `ModeInput.mounts`.

    `selects` says whether a `when` table selects this container. `units`: the init is a systemd that units may be given
    to (false where the image's own command is that systemd). `boot` is the plan's, `systemd_version` the version of the
    image's systemd where known. Raises InvalidArgument for an agent that cannot be had as the node wants it.
    """
    source = config.source
    chosen = _selected(config, selects, seen)
    claims = seen.claims if units else {}
    for name in _APPLICATION:
        if taken := claims.get(name):
            raise InvalidArgument(
                f"image: found {taken}, allowed nothing that replaces or changes {name}, the application's unit"
            )
    steps = [*mounts.steps(chosen, points, seen.targets, source=source)]
    # A mandatory agent is not left to a systemd whose units the image can change. An agent with a limit would be killed
    # for it inside the container's cgroup, and the kernel's count makes containerd call the container OOMKilled.
    by_unit = tuple(one for one in chosen if units and not one.agent.mandatory and one.agent.memory_bytes is None)
    unit_agents = {one.agent.name: claims.get(unit.unit_name(one.agent.name), "") for one in by_unit}
    for one in chosen:
        stands_in = claims.get(unit.unit_name(one.agent.name))
        if one.agent.mandatory and stands_in:
            raise InvalidArgument(
                f"image: found {stands_in}, allowed nothing in place of the unit of agent {one.agent.name}:"
                f" the agent is mandatory ({source}: {one.key})"
            )
    env = environment.make(
        {**edit.env(spec), **variables(mode)},
        places=config.rich.env_file,
        exclude=config.rich.env_exclude,
        seen=seen.env,
        run_dir=run_dir,
        boot=boot,
        systemd_version=systemd_version,
    )
    made = unit.units(by_unit, source=source, foreign=env.to_units)
    steps += (
        bind_step(f"mount-{one.name}", "an agent's unit", f"{run_dir}/{one.name}", one.target) for one in made.binds
    )
    reached = mounts.warnings(chosen, spec, source=source)
    files, warnings = lxcfs.plan(config.rich.lxcfs, seen.lxcfs_files, points, mounted=seen.lxcfs_mounted)
    for name, path in unit_agents.items():
        if path:
            warnings = (*warnings, f"image: found {path} in place of the unit of agent {name}, which may not run")
    return Extras(
        (*steps, *env.steps, *files),
        made.files,
        env.files,
        tuple(process.supervised(one, spec) for one in chosen if one not in by_unit),
        unit_agents,
        tuple(route for route in config.routes if selects(route.when)),
        (*reached, *warnings, *env.warnings),
        chosen,
        env.to_units,
    )


def _selected(config: Config, selects: Callable[[When], bool], seen: ExtrasFacts) -> tuple[select.Selected, ...]:
    """The agents selected for this container, with their users. Raises InvalidArgument."""
    return select.select(
        config.agents,
        lambda agent: selects(agent.when),
        resolve=_resolver(seen),
        source=config.source,
        has_v2_memory=seen.has_v2_memory,
    )
