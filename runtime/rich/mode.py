"""From the mode that was asked for to the one a container gets, once its image has been looked at.

Policy (`runtime.rich.policy`) says what is wanted and by whom; here is what the image, the host and the container's
namespaces allow. Pure, like all of a plan.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace

from runtime.config.kinds import shown
from runtime.config.model import Config
from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.image.image import ImageFacts
from runtime.init import inittab
from runtime.init.base import HOME
from runtime.init.cgroup import V2_BEGINS, uses_v1
from runtime.init.detect import SBIN_INIT, SUPPORTED, SYSTEMD_PATHS, InitFacts
from runtime.rich.policy import Choice, Decision
from runtime.spec import edit
from runtime.spec.edit import Spec

_INIT_PATHS = frozenset(f"{directory}/init" for directory in ("/sbin", "/usr/sbin", "/bin", "/usr/bin"))
_INIT_NAMES = frozenset({"systemd", "tini", "tini-static", "docker-init", "dumb-init", "catatonit"})
"""Programs that expect to be PID 1. As a child tini and dumb-init warn, systemd and s6's /init refuse."""


@dataclass(frozen=True, slots=True)
class ResolvedMode:
    """The mode that a container gets; None: it stays plain, and the last decision says why.

    `init` is what PID 1 will be, `supplied` whether the image's own command is it.
    """

    mode: str | None
    init: InitFacts
    supplied: bool = False
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    choice: Choice
    config: Config
    facts: ImageFacts
    host: HostFacts
    shared: str
    uid: int


def shared_pid_namespace(spec: Spec) -> str:
    """Empty where the container has a pid namespace of its own, else what it has instead."""
    for index, one in enumerate(edit.items(edit.table(spec, "linux"), "namespaces", within="linux.")):
        if not isinstance(one, Mapping):
            raise InvalidArgument(f"config.json: linux.namespaces[{index}]: found {shown(one)}, allowed an object")
        if one.get("type") == "pid":
            return f"shares the pid namespace {one['path']}" if one.get("path") else ""
    return "is in the host's pid namespace"


def _user(spec: Spec) -> int:
    uid = edit.table(edit.table(spec, "process"), "user", within="process.").get("uid", 0)
    if not isinstance(uid, int):
        raise InvalidArgument(f"config.json: process.user.uid: found {shown(uid)}, allowed a whole number")
    return uid


def image_init(facts: ImageFacts) -> tuple[str, str] | None:
    """The init that the command already is, and its kind where it is one of SUPPORTED, or None."""
    command = facts.command
    # Below a mount nothing but the name is known.
    name = posixpath.normpath(command.name)
    for path in (command.path, command.target, name):
        if path is None:
            continue
        if posixpath.basename(path) == "systemd":
            return path, "" if command.hidden_by else "systemd"
        if path in _INIT_PATHS:
            kind = facts.init.kind if facts.init.kind in SUPPORTED else ""
            return path, "" if command.hidden_by else kind
        if posixpath.basename(path) in _INIT_NAMES:
            return path, ""
    return ("s6's /init", "") if facts.is_s6 else None


def _no_cgroups(case: _Case) -> str:
    """Why the image's systemd cannot have cgroups that it understands on this host, or empty."""
    version, host, config = case.facts.init.version, case.host, case.config
    if version is None or version >= V2_BEGINS:
        return ""
    if host.cgroups == "unified":
        return f"systemd {version} of the image needs cgroup v1, and this host has cgroup v2 only"
    if not uses_v1(host, version):
        return f"systemd {version} of the image needs the name=systemd hierarchy, and this host has none mounted"
    if config.rich.cgroup_v1 != "allow":
        return (
            f"systemd {version} of the image knows no cgroup v2 and would have to write below cgroup v1's name=systemd,"
            f" where the kernel bounds neither the number of cgroups nor their memory"
            f" (rich.cgroup-v1 = {shown(config.rich.cgroup_v1)}; {config.source_of('rich.cgroup-v1')})"
        )
    return ""


def _no_room(case: _Case) -> str:
    """Why no real init can be had at all, or empty."""
    if case.shared:
        return f"the container {case.shared}: there is no PID 1 to give"
    for path in ("/run", HOME):
        if (leads := case.facts.resolved[path]) != path:
            return f"{path}: the image has a symbolic link to {shown(leads)} there"
    return ""


def _no_systemd(case: _Case) -> str:
    """Why mode systemd cannot be had, or empty."""
    init = case.facts.init
    if problem := _no_room(case):
        return problem
    if not init.systemd:
        return f"{SYSTEMD_PATHS[0]}: not in the image"
    return _no_cgroups(case)


def _no_sbin_init(case: _Case) -> str:
    """Why mode sbin-init cannot be had, or empty."""
    init = case.facts.init
    if problem := _no_room(case) or init.problem:
        return problem
    if init.kind == "systemd":
        return _no_cgroups(case)
    if init.kind not in SUPPORTED:
        what = (
            f"{init.kind}, under which the command cannot be PID 1's child" if init.kind else "an init of unknown kind"
        )
        return f"{SBIN_INIT}: it is {what}"
    if init.kind != "busybox" and inittab.sysvinit(init) is None:
        return f"{SBIN_INIT}: it is {init.kind}, but there are no start scripts of a known kind"
    return ""


_PROBLEMS = {"systemd": _no_systemd, "sbin-init": _no_sbin_init}


def _working(case: _Case) -> str:
    modes = [mode for mode, problem in _PROBLEMS.items() if not problem(case)]
    return "rich = false" if case.shared else ", ".join((*modes, "dumb-init", "auto"))


def _dumb_init(case: _Case, *decisions: Decision, warnings: tuple[str, ...] = ()) -> ResolvedMode:
    if case.shared:
        stays = Decision("rich", "false", f"the container {case.shared}: there is no PID 1 to give")
        return ResolvedMode(None, case.facts.init, decisions=(*decisions, stays), warnings=warnings)
    return ResolvedMode("dumb-init", case.facts.init, decisions=decisions, warnings=warnings)


def _real(case: _Case, mode: str, *decisions: Decision) -> ResolvedMode:
    _check_root_init(case, mode)
    # In mode systemd PID 1 is systemd, whatever /sbin/init is.
    init = replace(case.facts.init, kind="systemd") if mode == "systemd" else case.facts.init
    return ResolvedMode(mode, init, decisions=decisions)


def _check_root_init(case: _Case, mode: str) -> None:
    rule = case.config.rich.root_init
    if case.uid == 0 or rule == "allow" or (rule == "auto" and not case.choice.mode_by_pod):
        return
    raise InvalidArgument(
        f"config.json: {case.choice.mode_source}: found mode {mode} for a container of user {case.uid}, allowed user 0:"
        f" PID 1 would be root (rich.root-init = {shown(rule)}; {case.config.source_of('rich.root-init')})"
    )


def _cannot(case: _Case, mode: str, problem: str) -> ResolvedMode:
    choice = case.choice
    if choice.mode_is_own or case.config.rich.strict:
        raise InvalidArgument(
            f"config.json: {choice.mode_source}: found mode {mode}, which cannot be had: {problem};"
            f" allowed {_working(case)}"
        )
    reason = f"mode {mode} cannot be had: {problem}"
    if case.shared:
        return _dumb_init(case, warnings=(f"{choice.mode_source}: {reason}: the container stays plain",))
    return _dumb_init(
        case, Decision("mode", "dumb-init", reason), warnings=(f"{choice.mode_source}: {reason}: dumb-init instead",)
    )


def _asked(case: _Case) -> ResolvedMode:
    mode = case.choice.mode
    if mode == "dumb-init" or mode is None:
        return _dumb_init(case)
    if mode == "auto":
        if problem := _no_systemd(case):
            return _dumb_init(case, Decision("mode", "dumb-init", f"auto: {problem}"))
        return _real(case, "systemd", Decision("mode", "systemd", f"auto: the image has {case.facts.init.systemd}"))
    if problem := _PROBLEMS[mode](case):
        return _cannot(case, mode, problem)
    return _real(case, mode)


def _not_permitted(case: _Case) -> str:
    """Why an image may not choose a real init by its command, or empty: it counts as the pod's author choosing."""
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
        return ResolvedMode(None, case.facts.init, decisions=(stays,))
    if kind == "systemd" and (refused := _no_cgroups(case)):
        raise InvalidArgument(f"config.json: process.args: found {path}, which cannot boot: {refused}")
    mode = "systemd" if kind == "systemd" else "sbin-init"
    init = replace(case.facts.init, kind=kind)
    return ResolvedMode(mode, init, supplied=True, decisions=(Decision("mode", mode, reason),))


def resolve(choice: Choice, spec: Spec, *, config: Config, facts: ImageFacts, host: HostFacts) -> ResolvedMode:
    """The mode for a rich container.

    Raises InvalidArgument where the command cannot be started, in runc's words; where the mode asked for this very
    container cannot be had, or none but it may (`rich.strict`), naming what would work; and where PID 1 would be root
    in a container of another user against policy.
    """
    case = _Case(choice, config, facts, host, shared_pid_namespace(spec), _user(spec))
    if (found := image_init(facts)) is not None:
        return _supplied(case, *found)
    if facts.command.problem is not None:
        raise InvalidArgument(f"start process: {facts.command.problem}")
    return _asked(case)
