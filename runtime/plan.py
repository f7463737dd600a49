"""The plan of a container: whether it is rich, in which mode, why, and the steps that make it so.

The caller reads, this module decides and touches nothing, the caller acts:

    choice = plan.choose(spec, config)                    policy; raises before anything is mounted
    facts = image.read_facts(rootfs, spec)                only where choice.rich
    made = plan.make(spec, config=config, facts=facts, terminal=terminal)
    spec = made.apply(spec)                               pure; written by the caller, with made.to_json()
    beside it

A sandbox needs none of this, nor a configuration that can be read: `is_sandbox` tells.
"""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from runtime import libexec
from runtime.config.kinds import shown
from runtime.config.model import Config
from runtime.errors import InvalidArgument
from runtime.image import ImageFacts
from runtime.init import INIT_MODES
from runtime.init.base import HOME, MountPoint, Setting
from runtime.policy import Choice, Decision, choose, is_sandbox
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step

__all__ = ["Choice", "Decision", "Plan", "choose", "is_sandbox", "make", "plain"]

_INIT_PATHS = frozenset(f"{directory}/init" for directory in ("/sbin", "/usr/sbin", "/bin", "/usr/bin"))
_INIT_NAMES = frozenset({"systemd", "tini", "tini-static", "docker-init", "dumb-init", "catatonit"})
"""Programs that expect to be PID 1. As a child tini and dumb-init warn, systemd and s6's /init refuse."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Frozen at Create, kept in the bundle. `helpers` are the binaries of `runtime.libexec` it binds."""

    rich: bool
    mode: str | None
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    helpers: tuple[str, ...] = ()

    def apply(self, spec: Spec) -> Spec:
        """The spec with all steps made; the argument is left alone."""
        return edit.apply(spec, self.steps)

    def to_json(self) -> str:
        """The plan as one JSON object; it may hold the pod's arguments, so it is kept 0600."""
        return json.dumps({"version": 1, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan `to_json` wrote. Raises InvalidArgument."""
        try:
            found = json.loads(text)
            if found["version"] != 1:
                raise ValueError(f"version {found['version']}")
            return cls(
                rich=bool(found["rich"]),
                mode=found["mode"],
                decisions=tuple(Decision(**one) for one in found["decisions"]),
                warnings=tuple(found["warnings"]),
                steps=tuple(_step(one) for one in found["steps"]),
                helpers=tuple(found["helpers"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise InvalidArgument(f"plan: found {type(err).__name__} {err}, allowed a plan") from err

    def describe(self) -> str:
        """The plan for people: decisions with their sources, warnings, steps."""
        lines = [f"rich container, mode {self.mode}" if self.rich else "plain container"]
        lines += [f"  {one.key} = {one.value}  ({one.source})" for one in self.decisions]
        lines += [f"  warning: {one}" for one in self.warnings]
        lines += [f"  {number}. {step.name}: {step.detail}" for number, step in enumerate(self.steps, 1)]
        return "\n".join(lines)


def _step(found: Mapping[str, Any]) -> Step:
    kept = found["edit"]
    if kept["operation"] not in edit.OPERATIONS:
        raise ValueError(f"operation {kept['operation']}")
    return Step(found["name"], found["detail"], Edit(kept["operation"], kept["operand"]))


def plain(source: str) -> Plan:
    """A plan that changes nothing, with the reason."""
    return Plan(rich=False, mode=None, decisions=(Decision("rich", "false", source),))


def _own_pid_namespace(spec: Spec) -> str:
    """Empty where the container has a pid namespace of its own, else what it has instead."""
    for index, one in enumerate(edit.items(edit.table(spec, "linux"), "namespaces", within="linux.")):
        if not isinstance(one, Mapping):
            raise InvalidArgument(f"config.json: linux.namespaces[{index}]: found {shown(one)}, allowed an object")
        if one.get("type") == "pid":
            return f"shares the pid namespace {one['path']}" if one.get("path") else ""
    return "is in the host's pid namespace"


def _image_init(facts: ImageFacts) -> str | None:
    """The init that the command already is, or None."""
    command = facts.command
    for path in (command.path, command.target):
        if path is None:
            continue
        if path in _INIT_PATHS or posixpath.basename(path) in _INIT_NAMES:
            return path
    if facts.is_s6:
        return "s6's /init"
    # Below a mount nothing but the name is known.
    name = posixpath.normpath(command.name)
    return name if name in _INIT_PATHS or posixpath.basename(name) in _INIT_NAMES else None


def _reason_to_stay_plain(spec: Spec, facts: ImageFacts) -> str | None:
    if shared := _own_pid_namespace(spec):
        return f"the container {shared}: there is no PID 1 to give"
    if found := _image_init(facts):
        return f"the image's command already is an init: {found}"
    return None


def make(
    spec: Spec, *, config: Config, facts: ImageFacts | None, terminal: bool, helpers: str = libexec.DIRECTORY
) -> Plan:
    """Decide everything about a container from its spec, the configuration and what was seen of the image.

    `facts` may be None only where `choose` says it is not rich. `terminal` is the Create request's. `helpers`
    is the host directory of the static binaries. Raises what `choose` raises, and InvalidArgument in runc's
    words where the command is not in the image or cannot be executed.
    """
    choice = choose(spec, config)
    if not choice.rich or choice.mode is None:
        return Plan(False, None, choice.decisions, choice.warnings)
    if facts is None:
        raise ValueError("a rich container's plan needs the facts of its image")
    if reason := _reason_to_stay_plain(spec, facts):
        stays = Decision("rich", "false", reason)
        return Plan(False, None, (*choice.decisions, stays), choice.warnings)
    command = facts.command
    if command.problem is not None:
        raise InvalidArgument(f"start process: {command.problem}")
    decisions = choice.decisions
    if command.hidden_by is not None:
        unseen = f"it is below the mount at {command.hidden_by}"
        decisions = (*decisions, Decision("command", "not looked up in the image", unseen))
    points = tuple(
        MountPoint(one["destination"], facts.resolved[posixpath.join("/", one["destination"])], one)
        for one in edit.mounts(spec)
    )
    setting = Setting(spec, edit.args(spec), terminal, points, facts.resolved[HOME], helpers)
    steps = INIT_MODES[choice.mode].steps(setting)
    return Plan(True, choice.mode, decisions, choice.warnings, steps, helpers=(choice.mode,))
