"""The plan of a container: whether it is rich, in which mode, why, and the steps that make it so.

The caller reads, this module decides without touching anything, and the caller acts:

    choice = policy.choose(spec, config, identity)        raises before anything is mounted
    facts = image.facts_of(root, spec, choice.services)   only where choice.rich
    made = plan.make(spec, choice, config=config, facts=facts, host=host.read(), run_dir=...)
    spec = made.apply(spec)                               pure; written by the caller, with made.as_object()
    beside it

A sandbox needs no plan, and so no readable configuration: `policy.is_sandbox` recognises it.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime import bundle
from runtime.config.model import Config
from runtime.config.signal_names import number_of
from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.image.image import ImageFacts
from runtime.init import INIT_MODES, kinds, may_be_real, services
from runtime.init.base import InitMode, ModeInput, MountPoint
from runtime.init.boot import AppProcess, Boot, RunFile
from runtime.init.cgroup import Delegation
from runtime.rich import confinement, environment
from runtime.rich.mode import ResolvedMode, resolve
from runtime.rich.policy import Choice, Decision, refuse_mandatory
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step


@dataclass(frozen=True, slots=True)
class Plan:
    """Fixed at Create and kept in the bundle. `helpers` are the binaries of `runtime.libexec` that the container runs.

    `boot` is None where PID 1 is no real init. `cgroup` is what the caller does to cgroups (None: nothing).
    `stop_signal` is the signal number that replaces a client's SIGTERM, where the pod set one. `apparmor` is the
    profile that every process of the container has in place of containerd's default, "" for none. `fallback` is
    ResolvedMode's.
    """

    rich: bool
    mode: str | None
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    helpers: tuple[str, ...] = ()
    boot: Boot | None = None
    cgroup: Delegation | None = None
    stop_signal: int | None = None
    apparmor: str = ""
    fallback: str = ""

    def apply(self, spec: Spec) -> Spec:
        """The spec after all steps; the argument is not changed."""
        return edit.apply(spec, self.steps)

    def as_object(self) -> dict[str, Any]:
        """What `from_dict` takes, for `runtime.bundle.to_json`. It may hold the pod's arguments, so keep it 0600."""
        return {"version": 1, **bundle.fields_of(self)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Plan":
        """The plan of the JSON object that `as_object` became in the record. Raises InvalidArgument."""
        try:
            if found["version"] != 1:
                raise ValueError(f"version {found['version']}")
            return cls(
                rich=bool(found["rich"]),
                mode=found["mode"],
                decisions=tuple(Decision(**one) for one in found["decisions"]),
                warnings=tuple(found["warnings"]),
                steps=tuple(_step(one) for one in found["steps"]),
                helpers=tuple(found["helpers"]),
                boot=_boot(found["boot"]),
                cgroup=None if found["cgroup"] is None else Delegation(**found["cgroup"]),
                stop_signal=found["stop_signal"],
                apparmor=found["apparmor"],
                fallback=found.get("fallback", ""),  # a record of an earlier version has none
            )
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise InvalidArgument(f"plan: found {_unlike(err)}, allowed a plan of this version") from err


def _unlike(err: Exception) -> str:
    """What of a plan is not as in this version."""
    if isinstance(err, KeyError):
        return f"no {err.args[0]}"
    return str(err) if isinstance(err, ValueError) else "other fields"


def _step(found: Mapping[str, Any]) -> Step:
    kept = found["edit"]
    if kept["operation"] not in edit.OPERATIONS:
        raise ValueError(f"operation {kept['operation']}")
    return Step(found["name"], found["detail"], Edit(kept["operation"], kept["operand"]))


def _fields(found: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for a class whose fields are tuples, from JSON, which has lists."""

    def frozen(value: Any) -> Any:
        return tuple(frozen(one) for one in value) if isinstance(value, list) else value

    return {name: frozen(value) for name, value in found.items()}


def _boot(found: Mapping[str, Any] | None) -> Boot | None:
    if found is None:
        return None
    launch = found["launch"]
    read = {
        **_fields(found),
        "files": tuple(RunFile(**one) for one in found["files"]),
        "launch": None if launch is None else AppProcess(**_fields(launch)),
    }
    return Boot(**read)


def _services(
    choice: Choice, mode: InitMode, resolved: ResolvedMode, config: Config
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The services that PID 1 starts, and warnings about the others. Raises as `services.check` does."""
    asked = choice.overrides.get("services")
    # Services are left out where the node's own mode starts none. Where the node's mode starts some, and the container
    # has another by the pod's choice, its image or its name, the node's mandatory services still have to start.
    must = mode.is_real or (may_be_real(config.rich.mode) and not choice.is_spared)
    requests = [services.Request(one, f"{config.source}: services.enable") for one in config.services.enable]
    requests += [
        services.Request(one, f"{config.source}: services.mandatory", must=must) for one in config.services.mandatory
    ]
    if asked is not None:
        requests += [services.Request(one, asked.source, is_pod=True) for one in asked.value]
    kind = "an init that is the image's own command" if resolved.is_own_command else resolved.init.kind
    found, near = services.found_for(resolved.init, kind), dict(resolved.init.near)
    return services.check(requests, init=kind, found=found, masked=config.rich.mask, close=near)


def _ignored(choice: Choice) -> tuple[str, ...]:
    return tuple(
        f"{one.source}: ignored, the container stays plain"
        for key, one in choice.overrides.items()
        if key not in ("rich", "mode")
    )


def _unrestarted(config: Config, resolved: ResolvedMode) -> tuple[str, ...]:
    if config.rich.restart == "no" or kinds.kind_of(resolved.init.kind).can_restart:
        return ()
    return (f"{config.source}: rich.restart: ignored, only systemd restarts an application that failed",)


def _stop_signal(choice: Choice) -> int | None:
    asked = choice.overrides.get("stop-signal")
    return None if asked is None else number_of(asked.value)


def make(
    spec: Spec,
    choice: Choice,
    *,
    config: Config,
    facts: ImageFacts | None,
    terminal: bool,
    host: HostFacts | None = None,
    run_dir: str = "",
) -> Plan:
    """Decide everything about a container from its spec, the policy's choice, and what was seen of image and host.

    `choice` is the result of `policy.choose` for the same spec and configuration. `facts` may be None only where the
    container is not rich. `terminal` is the Create request's, `run_dir` the host path of the container's future run
    directory. Raises what `resolve` raises, and InvalidArgument where the spec leaves no room for the mode.
    """
    if not choice.rich or choice.mode is None:
        return Plan(False, None, choice.decisions, choice.warnings)
    if facts is None:
        raise ValueError("a rich container's plan needs the facts of its image")
    host = host or HostFacts()
    resolved = resolve(choice, spec, config=config, facts=facts, host=host)
    decisions = (*choice.decisions, *resolved.decisions)
    warnings = (*choice.warnings, *resolved.warnings)
    if resolved.mode is None:
        # A pod must not evade by its command or its namespaces what it could not evade with rich = false.
        found = "a container that has to stay plain, allowed a rich one"
        refuse_mandatory(decisions[-1].source, found, choice.identity, config)
        return Plan(False, None, decisions, (*warnings, *_ignored(choice)), fallback=resolved.fallback)
    if facts.command.hidden_by is not None:
        unseen = f"it is below the mount at {facts.command.hidden_by}"
        decisions = (*decisions, Decision("command", "not looked up in the image", unseen))
    profile, about_profile = confinement.decide(spec, config)
    decisions = (*decisions, *about_profile)
    mode = INIT_MODES[resolved.mode]
    to_start, skipped = _services(choice, mode, resolved, config)
    made = mode.make(
        ModeInput(
            spec,
            edit.args(spec),
            terminal,
            mount_points(spec, facts),
            facts.resolved,
            mode=mode.name,
            run_dir=run_dir,
            init=resolved.init,
            host=host,
            is_own_command=resolved.is_own_command,
            services=to_start,
            needed=tuple(services.unit(one) for one in config.services.mandatory),
            mask=config.rich.mask,
            capabilities=config.rich.init_capabilities,
            restart_on_failure=config.rich.restart == "on-failure",
            stop_timeout_s=config.rich.stop_timeout_s,
            stop_signal=_stop_signal(choice),
            delegates=config.key_and_source("rich.cgroup") if config.rich.cgroup == "delegate" else "",
            environment=environment.UNITS in config.rich.env_file,
            uncopied=facts.uncopied,
            cgroup_limits=(config.rich.cgroup_descendants, config.rich.cgroup_depth),
        )
    )
    return Plan(
        True,
        mode.name,
        decisions,
        (*warnings, *skipped, *_unrestarted(config, resolved), *made.warnings),
        (*confinement.steps(profile), *made.steps),
        made.helpers,
        made.boot,
        made.cgroup,
        _stop_signal(choice),
        profile,
        resolved.fallback,
    )


def mount_points(spec: Spec, facts: ImageFacts) -> tuple[MountPoint, ...]:
    """The spec's mounts, each with where it lies in the image once symbolic links have been followed."""
    return tuple(
        MountPoint(one["destination"], facts.resolved[posixpath.join("/", one["destination"])], one)
        for one in edit.mounts(spec)
    )
