"""From the mode that was asked for to the mode that a container gets, once its image has been examined.

Policy (`runtime.rich.policy`) says which mode is wanted and by whom. This module says what the image, the host and the
container's namespaces allow. Pure, like all of a plan.
"""

import posixpath
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from runtime.config.kinds import short_json
from runtime.config.model import Config
from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.image.image import ImageFacts
from runtime.init import AUTO, DUMB_INIT, INIT_MODES, SYSTEMD, detect, mode_for, possible, process
from runtime.init.base import InitMode, ModeFacts, Obstacle
from runtime.init.detect import InitFacts
from runtime.rich.policy import Choice, Decision
from runtime.spec import edit
from runtime.spec.edit import Spec

OWN_INIT = "image-init"
"""The reason of a fallback where the command is an init itself; the others are `runtime.init.base.ObstacleReason`."""


class ResolvedMode(NamedTuple):
    """The mode that a container gets. None: the container stays plain, and the last decision says why.

    `init` is what PID 1 will be; `is_own_command` says whether that is the image's own command. `fallback` is why the
    mode is not the one asked for, as `runtime.init.base.Obstacle.reason` or OWN_INIT, or "".
    """

    mode: str | None
    init: InitFacts
    is_own_command: bool = False
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()
    fallback: str = ""


class _Case(NamedTuple):
    choice: Choice
    config: Config
    facts: ImageFacts
    site: ModeFacts
    uid: int
    spec: Spec

    @property
    def shared(self) -> str:
        """Empty where the container has a PID namespace of its own, else what it has instead."""
        return self.site.shared


def shared_pid_namespace(spec: Spec) -> str:
    """Empty where the container has a PID namespace of its own, else a phrase for what it has instead.

    Raises InvalidArgument for a malformed `linux.namespaces`.
    """
    for index, one in enumerate(edit.items(edit.table(spec, "linux"), "namespaces", within="linux.")):
        if not isinstance(one, Mapping):
            raise InvalidArgument(f"config.json: linux.namespaces[{index}]: found {short_json(one)}, allowed an object")
        if one.get("type") == "pid":
            return f"shares the pid namespace {one['path']}" if one.get("path") else ""
    return "is in the host's pid namespace"


def _user(spec: Spec) -> int:
    uid = edit.table(edit.table(spec, "process"), "user", within="process.").get("uid", 0)
    if not isinstance(uid, int):
        raise InvalidArgument(f"config.json: process.user.uid: found {short_json(uid)}, allowed a whole number")
    return uid


def image_init(facts: ImageFacts, args: Sequence[str]) -> tuple[str, str] | None:
    """The init that the command `args` is or becomes, and its kind where that is one of SUPPORTED, else ""; or None."""
    command = facts.command
    # For a command below a mount only the name is known.
    paths = (command.path, command.target, posixpath.normpath(command.name))
    is_images = command.target == facts.init.target != ""
    found = detect.own_init(paths, kind=facts.init.kind, is_images=is_images, is_script=command.is_script)
    if found is not None:
        path, kind = found
        return path, "" if command.hidden_by else kind
    if words := detect.replaces_shell(args):
        found = detect.own_init((posixpath.normpath(words[0]),), kind=facts.init.kind)
        if found is not None:
            return found
    if (found := detect.applet(words or args)) is not None:
        return found
    entry, where = (words, words[0]) if words else (args, command.path or "")
    init = detect.given_init(entry, where, is_script=command.is_script and not words)
    if init and (facts.init.kind or facts.init.systemd):
        return f"{init}, given to {entry[0]}", ""
    return ("s6's /init", "") if facts.is_s6 else None


def _working(case: _Case) -> str:
    modes = [mode.name for mode in INIT_MODES.values() if not mode.obstacle(case.site)]
    return "rich = false" if case.shared else ", ".join((*modes, AUTO))


def _dumb_init(case: _Case, *decisions: Decision, warnings: tuple[str, ...] = (), fallback: str = "") -> ResolvedMode:
    if case.shared:
        stays = Decision("rich", "false", f"the container {case.shared}: it cannot have a PID 1 of its own")
        return ResolvedMode(
            None, case.facts.init, decisions=(*decisions, stays), warnings=warnings, fallback="pid-namespace"
        )
    return _resolved(case, DUMB_INIT, decisions, warnings, fallback)


def _real(case: _Case, mode: InitMode, *decisions: Decision) -> ResolvedMode:
    _check_root_init(case, mode)
    return _resolved(case, mode, decisions)


def _resolved(
    case: _Case, mode: InitMode, decisions: tuple[Decision, ...], warnings: tuple[str, ...] = (), fallback: str = ""
) -> ResolvedMode:
    init = case.facts.init._replace(kind=mode.kind or case.facts.init.kind)
    return ResolvedMode(mode.name, init, decisions=decisions, warnings=warnings, fallback=fallback)


def _may_be_root(case: _Case) -> bool:
    rule = case.config.rich.root_init
    return case.uid == 0 or rule == "allow" or (rule == "auto" and not case.choice.mode_by_pod)


def _no_privilege(case: _Case, mode: InitMode) -> Obstacle | None:
    """What PID 1 lacks for a boot in this pod. Used where another mode may be given instead."""
    return process.no_privilege(mode.kind or case.facts.init.kind, case.spec, case.config.rich.init_capabilities)


def _check_root_init(case: _Case, mode: InitMode) -> None:
    rule = case.config.rich.root_init
    if _may_be_root(case):
        return
    raise InvalidArgument(
        f"config.json: {case.choice.mode_source}: found mode {mode.name} for a container of user {case.uid},"
        f" allowed for user 0 only: PID 1 would be root; to permit it, the node sets rich.root-init = allow"
        f" (found {short_json(rule)}; {case.config.source_of('rich.root-init')})"
    )


def _cannot(case: _Case, mode: InitMode, obstacle: Obstacle) -> ResolvedMode:
    choice = case.choice
    if choice.mode_is_own or case.config.rich.strict:
        raise InvalidArgument(
            f"config.json: {choice.mode_source}: found mode {mode.name}, which is not possible: {obstacle.text};"
            f" allowed {_working(case)}"
        )
    reason = f"mode {mode.name} is not possible: {obstacle.text}"
    if case.shared:
        return _dumb_init(case, warnings=(f"{choice.mode_source}: {reason}: the container stays plain",))
    warning = f"{choice.mode_source}: {reason}: {DUMB_INIT.name} instead"
    decision = Decision("mode", DUMB_INIT.name, reason)
    return _dumb_init(case, decision, warnings=(warning,), fallback=obstacle.reason)


def _asked(case: _Case) -> ResolvedMode:
    mode = INIT_MODES.get(case.choice.mode or DUMB_INIT.name)
    if mode is None:
        obstacle = SYSTEMD.obstacle(case.site) or _no_privilege(case, SYSTEMD)
        if not obstacle and not _may_be_root(case):
            obstacle = Obstacle(f"PID 1 would be root in a container of user {case.uid} (rich.root-init)", "init")
        if obstacle:
            decision = Decision("mode", DUMB_INIT.name, f"{AUTO}: {obstacle.text}")
            return _dumb_init(case, decision, fallback=obstacle.reason)
        found = Decision("mode", SYSTEMD.name, f"{AUTO}: the image has {case.facts.init.systemd}")
        return _real(case, SYSTEMD, found)
    if not mode.is_real:
        return _dumb_init(case)
    is_firm = case.choice.mode_is_own or case.config.rich.strict  # for these the plan's own error says more
    if obstacle := mode.obstacle(case.site) or (None if is_firm else _no_privilege(case, mode)):
        return _cannot(case, mode, obstacle)
    return _real(case, mode)


def _not_permitted(case: _Case) -> str:
    """Why an image may not choose a real init by its command (it counts as the pod's own choice), or ""."""
    config = case.config
    if "mode" not in config.rich.pod_override:
        return f"pods may not choose a mode (rich.pod-override; {config.source_of('rich.pod-override')})"
    if case.uid != 0 and config.rich.root_init != "allow":
        return f"its user is {case.uid} (rich.root-init; {config.source_of('rich.root-init')})"
    return ""


def _supplied(case: _Case, path: str, kind: str) -> ResolvedMode:
    reason = f"the image's command already is an init: {path}"
    problem = f"the container {case.shared}" if case.shared else _not_permitted(case) if kind else ""
    if problem or not kind:
        stays = Decision("rich", "false", f"{reason}; {problem}" if problem else reason)
        asked = case.choice.mode_source if case.choice.mode_is_own else ""
        warnings = (f"{asked}: ignored, the container stays plain",) if asked else ()
        return ResolvedMode(None, case.facts.init, decisions=(stays,), warnings=warnings, fallback=OWN_INIT)
    if obstacle := possible.to_cgroups(case.site, kind):
        raise InvalidArgument(f"config.json: process.args: found {path}, which cannot boot: {obstacle.text}")
    mode, wanted = mode_for(kind), INIT_MODES.get(case.choice.mode or "")  # None stands for auto
    init = case.facts.init._replace(kind=kind)
    decisions = (Decision("mode", mode.name, reason),)
    fallback = "" if wanted in (None, mode) else OWN_INIT
    return ResolvedMode(mode.name, init, is_own_command=True, decisions=decisions, fallback=fallback)


def resolve(choice: Choice, spec: Spec, *, config: Config, facts: ImageFacts, host: HostFacts) -> ResolvedMode:
    """The mode for a rich container.

    Raises InvalidArgument where the command cannot be started, in runc's words; where the mode cannot be had, naming
    what would work, if it was asked for this very container or `rich.strict` is set; and where policy forbids a PID 1
    that is root in a container of another user.
    """
    rule, source = config.rich.cgroup_v1, config.source_of("rich.cgroup-v1")
    site = ModeFacts(facts.init, facts.resolved, host, shared_pid_namespace(spec), rule, source)
    case = _Case(choice, config, facts, site, _user(spec), spec)
    if (found := image_init(facts, edit.args(spec))) is not None:
        return _supplied(case, *found)
    if facts.command.problem is not None:
        raise InvalidArgument(f"start process: {facts.command.problem}")
    return _asked(case)
