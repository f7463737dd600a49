"""What a rich container has besides its init and its application: environment file, lxcfs, agents, routes.

One look at image and node, one pure decision, and values to act on:

    seen = besides.look(root, spec, config)                   reads; the lxcfs part is the shim's to ask for and add
    more = besides.make(spec, config=config, mode=mode, selects=..., units=..., seen=seen, points=..., run_dir=...)
    the plan's steps + more.steps, its boot's files + more.files, its warnings + more.warnings
    more.env_text written by env_file.write once the run directory exists; more.routes set before the prestart hooks;
    more.agents supervised once the application runs
"""

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runtime import env_file, lxcfs, passwd
from runtime.agents import cgroup, mounts, process, select, unit
from runtime.agents.process import Supervised
from runtime.boot import RunFile
from runtime.config.model import Config, Route, When
from runtime.errors import InvalidArgument
from runtime.image import Rootfs
from runtime.init.base import MountPoint, bound, variables
from runtime.passwd import User
from runtime.spec import edit
from runtime.spec.edit import Spec, Step


@dataclass(frozen=True, slots=True)
class Seen:
    """Facts of image and node; the last two are what `shim.task.lxcfs.alive_files` found.

    `users` holds a User or why there is none, by what the configuration calls them.
    """

    env_file_problem: str | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, User | str] = field(default_factory=dict)
    has_v2_memory: bool = False
    lxcfs_mounted: bool = False
    lxcfs_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Besides:
    """`env_text` None: no environment file. `agents` are for the shim to supervise; units are `files` and `steps`."""

    steps: tuple[Step, ...] = ()
    files: tuple[RunFile, ...] = ()
    env_text: str | None = None
    agents: tuple[Supervised, ...] = ()
    routes: tuple[Route, ...] = ()
    warnings: tuple[str, ...] = ()


def look(root: Rootfs, spec: Spec, config: Config) -> Seen:
    """Read what `make` needs of the image at `root` and of the node, all but lxcfs. Raises InvalidArgument.

    Call it beside an event loop, as `image.facts_of`.
    """
    destinations = [posixpath.join("/", one["destination"]) for one in edit.mounts(spec)]
    hiding = [path for one in destinations if (path := root.walk(one).path) != "/"]
    found = root.walk(env_file.TARGET, hiding)
    wanted = {agent.user for agent in config.agents if agent.user is not None}
    return Seen(
        env_file.reason_to_skip(found.path, found.mode, found.error, hidden_by=found.hidden_by),
        {target: root.walk(target).path for target in select.targets(config.agents)},
        _users(root, wanted),
        cgroup.has_v2_memory(),
    )


def _users(root: Rootfs, wanted: Iterable[str]) -> dict[str, User | str]:
    found: dict[str, User | str] = {}
    for one in wanted:
        try:
            found[one] = passwd.resolve(root.fd, one)
        except InvalidArgument as err:
            found[one] = str(err)
    return found


def _resolver(seen: Seen) -> Callable[[str], User]:
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
    seen: Seen,
    points: Sequence[MountPoint],
    run_dir: str,
) -> Besides:
    """Decide. `spec` is containerd's, before any step, and `points` its mounts as in `Setting.mounts`.

    `selects` is about this container; `units`: its init is a systemd that units may be given to (not where the image's
    own command is that systemd). Raises InvalidArgument for an agent that cannot be had as the node wants it.
    `mounts.check_sources` is not called here, as it looks at the node: call it with `selected` of the same arguments.
    """
    source = config.source
    chosen = selected(config, selects, seen)
    steps = [*mounts.steps(chosen, points, seen.targets, source=source)]
    made = unit.units(chosen, source=source) if units else unit.Units()
    steps += (bound(f"mount-{one.name}", "an agent's unit", f"{run_dir}/{one.name}", one.target) for one in made.binds)
    reached = mounts.warnings(chosen, spec, source=source)
    files, warnings = lxcfs.plan(config.rich.lxcfs, seen.lxcfs_files, points, mounted=seen.lxcfs_mounted)
    env_text = None
    if config.rich.env_file and seen.env_file_problem is None:
        env_text = env_file.text({**edit.env(spec), **variables(mode)})
        steps.append(env_file.step(f"{run_dir}/{env_file.NAME}"))
    elif config.rich.env_file:
        warnings = (*warnings, f"rich.env-file: {seen.env_file_problem}, skipped")
    return Besides(
        (*steps, *files),
        made.files,
        env_text,
        () if units else tuple(process.supervised(one, spec) for one in chosen),
        tuple(route for route in config.routes if selects(route.when)),
        (*reached, *warnings),
    )


def selected(config: Config, selects: Callable[[When], bool], seen: Seen) -> tuple[select.Selected, ...]:
    """The agents of this container, with their users. Raises InvalidArgument."""
    return select.select(
        config.agents,
        lambda agent: selects(agent.when),
        resolve=_resolver(seen),
        source=config.source,
        has_v2_memory=seen.has_v2_memory,
    )
