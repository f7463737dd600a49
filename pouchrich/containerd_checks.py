"""Checks of containerd for `pouchrich doctor`: of a running one, or of a configuration file.

They check whether it answers and has its CRI plugin, what our handlers in its configuration pass to the shim, and
whether the handlers change anything else.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from pouchrich import apparmor_node, containerd_config, containerd_dump, node_agents, node_files, older, running
from pouchrich.checks import FAIL, OK, WARN, Check
from pouchrich.containerd_config import ON_PATH, Handler
from pouchrich.program import Program
from pouchrich.running import Running
from runtime import config
from runtime.config.annotations import PREFIX
from runtime.config.render import toml
from runtime.errors import NotFound, PouchrichError
from runtime.spec.cri import GRACE_PERIOD

_NAMED = 5
_RESTART = "containerd has not read it: restart containerd, once no check fails"
_NONE = "none for this shim"
_NONES = (_NONE, "no such file or directory")
CRI_DISABLED = "remove the CRI plugin from disabled_plugins and restart containerd"
_LINES = "pouchrich runtimeclass --containerd here prints the lines for this file"
_DROPS = (1, 6)
"""The containerd whose CRI plugin drops a handler's options, except ConfigPath, and its runtime_path (containerd
#8207)."""
_KNOWS_USER_NAMESPACES = (2, 0)
_ASKS_EVERY_TYPE = (2, 2)
"""From 2.2.7 on in the 2.2 series; the patch release is not known here."""


def _sockets(address: str | None) -> tuple[tuple[str, str], ...]:
    return running.SOCKETS if address is None else (("containerd", address),)


def found(address: str | None) -> list[Running]:
    """The running containerds, or the one at socket `address`; those that have a handler of ours come first."""
    return sorted(running.find(_sockets(address)), key=lambda one: not _has_handler(one))


def named_shims(here: Sequence[Running]) -> list[str]:
    """The shim's paths in our handlers in the configurations of these containerds."""
    return [handler.runtime_path for one in here for handler in _handlers(one) if handler.runtime_path]


def _handlers(one: Running) -> tuple[Handler, ...]:
    with suppress(NotFound, PouchrichError, OSError):
        return containerd_config.handlers(one.config, major=2)
    return ()


def _has_handler(one: Running) -> bool:
    return bool(_handlers(one))


def of_node(file: str | None, here: Sequence[Running], address: str | None) -> Iterator[Check]:
    if file is None:
        is_used = any(map(_has_handler, here))
        for one in here:
            for check in of_running(one):
                unused = is_used and check.what == "handlers" and check.found.endswith(_NONES)
                yield replace(check, level=OK, advice="not for rich containers") if unused else check
        if here:
            return
        where = ", ".join(path for _, path in _sockets(address))
        yield Check(WARN, "containerd", f"none listens at {where}", "start it, or name its socket with --address")
    file = file or containerd_config.DEFAULT
    version = containerd_config.containerd_version()
    yield from containerd(file, version)
    if version is not None:
        yield others(file)


def of_running(one: Running) -> Iterator[Check]:
    """A running containerd: whether it answers, has loaded its CRI plugin, and what its configuration says now."""
    what = "containerd" if one.kind == "containerd" else f"containerd of {one.kind}"
    if one.problem:
        yield Check(FAIL, what, f"{one.socket}: {one.problem}", "start it, or remove the stale socket")
        return
    yield Check(OK, what, f"listens at {one.socket}, pid {one.pid}, configuration {one.config}")
    try:
        failed = list(running.failed_plugins(one))
        stale = running.changed_since(one)
    except PouchrichError as err:
        yield Check(FAIL, what, f"does not answer correctly: {err}", "see its log")
    else:
        for plugin in failed:
            yield Check(FAIL, what, f"has not loaded {plugin}", "see its log; often the configuration has an error")
        if stale:
            yield Check(WARN, what, f"{stale} was changed after containerd's start", _RESTART)
    version = running.version(one)
    for check in containerd(one.config, version):
        advice = running.WHERE.get(one.kind, "") if check.what == "handlers" else ""
        yield replace(check, advice=f"{check.advice}; {advice}") if advice else check
    if version is not None:
        for source in containerd_dump.unread(one.config, major=version[0], containerd=one.program):
            yield Check(FAIL, "handlers", f"{source}: containerd does not read it (config dump)", _LINES)
        yield others(one.config, one.program)


def containerd(file: str, version: tuple[int, int] | None) -> Iterator[Check]:
    """Our handlers in the configuration `file`, judged for containerd `version` (None: not known)."""
    if version is not None:
        yield Check(OK, "containerd", f"version {version[0]}.{version[1]}")
    try:
        handlers = containerd_config.handlers(file, major=version[0] if version is not None else 2)
        disabled_in = containerd_config.cri_disabled_in(file)
    except (NotFound, PouchrichError) as err:
        yield Check(FAIL, "handlers", str(err), _how(version))
        return
    if disabled_in and handlers:
        yield Check(FAIL, "handlers", f"{disabled_in}: disabled_plugins: no kubelet can use them", CRI_DISABLED)
    elif disabled_in:
        found = f"none: {disabled_in} disables the CRI plugin, so only clients that name the shim themselves can use it"
        yield Check(OK, "handlers", found)
        return
    if not handlers:
        yield Check(FAIL, "handlers", f"{file}: {_NONE}", _how(version))
    for one in handlers:
        yield from _handler(one, version)


def others(file: str, program: Program = ON_PATH) -> Check:
    """Whether containerd's configuration, except our handlers, is as it would be without them; by `program`'s dump."""
    what = "containerd config dump"
    try:
        changed = containerd_dump.changed(file, containerd=program)
    except NotFound as err:
        return Check(OK, what, str(err))
    except containerd_dump.Refused as err:
        return Check(
            FAIL, what, f"containerd would not start with this: {err}", "correct it before containerd is restarted"
        )
    except PouchrichError as err:
        return Check(WARN, what, str(err), "could not check whether the shim's handlers change anything else")
    if not changed:
        return Check(OK, what, "the shim's handlers change nothing else")
    more = f", and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
    found = f"the shim's handlers change more than themselves: {'; '.join(changed[:_NAMED])}{more}"
    return Check(FAIL, what, found, f"pouchrich runtimeclass --containerd here prints where they belong ({file})")


def _how(version: tuple[int, int] | None) -> str:
    which = "2" if version is None else "here"
    return f"pouchrich runtimeclass --containerd {which} prints what to add, and where; restart containerd afterwards"


def _handler(one: Handler, version: tuple[int, int] | None) -> Iterator[Check]:
    what = f"handler {one.name}"
    yield Check(OK, what, one.source)
    if containerd_config.passes_pod_annotations(one):
        yield Check(OK, what, "passes the pods' annotations")
    else:
        found = f"pod_annotations does not pass {PREFIX}KEY: pods' settings have no effect, and no error says so"
        yield Check(FAIL, what, found, f'add "{PREFIX}*" to pod_annotations')
    if containerd_config.passes_grace_period(one):
        yield Check(OK, what, "passes the grace period")
    else:
        found = "container_annotations does not pass the grace period: init may be killed during its shutdown"
        yield Check(WARN, what, found, f'add "{GRACE_PERIOD}" to container_annotations')
    if one.runtime_path and not os.access(one.runtime_path, os.X_OK):
        yield Check(FAIL, what, f"runtime_path {one.runtime_path} is no executable file", "correct it")
    elif one.runtime_path and version == _DROPS:
        found = "runtime_path: containerd 1.6.20 ignores it; later releases of 1.6 may not"
        on_path = "put the shim on containerd's PATH"
        yield Check(WARN, what, found, on_path if one.takes_our_options else "pods get containerd's own shim: use 1.7")
    for key, value, usual in (("sandboxer", one.sandboxer, "podsandbox"), ("io_type", one.io_type, "fifo")):
        if value not in ("", usual):
            found = f"{key} = {toml(value)}: for another kind of shim, with which no pod of this handler can run"
            yield Check(FAIL, what, found, f"remove it; the default is {usual}")
    if one.takes_our_options:
        yield from _options(one, what, version)
    if version is None or version >= _KNOWS_USER_NAMESPACES:
        yield Check(OK, what, _user_namespaces(one, version))


def _user_namespaces(one: Handler, version: tuple[int, int] | None) -> str:
    """What happens to a pod with `hostUsers: false` (`shim.spawner.info` explains it)."""
    if not one.takes_our_options:
        return "hostUsers: false works where the OCI runtime has ID-mapped mounts"
    if one.options is not None:
        return (
            "hostUsers: false is refused, because the handler has an options table: without the table, and with its"
            " keys in the node's file, such pods can run"
        )
    if version is not None and version < _ASKS_EVERY_TYPE:
        return "hostUsers: false is refused: this containerd asks only its own runtime type; use a drop-in handler"
    return (
        "hostUsers: false works with containerd 2.2.7, 2.3.4, 2.4 and later, where the OCI runtime has ID-mapped mounts"
    )


def _options(one: Handler, what: str, version: tuple[int, int] | None) -> Iterator[Check]:
    """Judge the handler's configuration as a Create request would."""
    if one.options is None:
        yield Check(OK, what, "configured by the node's file")
        return
    if not one.config_path and version == _DROPS:
        found = "options without ConfigPath: containerd 1.6 passes no other key, and every container is refused"
        yield Check(FAIL, what, found, "put the keys into a file and name it by ConfigPath")
        return
    try:
        body = "" if one.config_path else "\n".join(f"{name} = {toml(value)}" for name, value in one.options.items())
        made = config.for_handler(config_path=one.config_path, config_body=body.encode(), programs=False)
        node_files.check_programs(made)
    except (PouchrichError, TypeError) as err:
        yield Check(FAIL, what, f"options: {err}", "correct it; until then its containers are refused")
        return
    yield Check(OK, what, f"configured by {made.source}")
    yield from (replace(check, what=what) for check in apparmor_node.named(made))
    if one.config_path:
        for refusal in older.refusals(one.config_path):
            yield Check(WARN, what, str(refusal), older.ADVICE)
    yield from (replace(check, what=f"agents of {what}") for check in node_agents.checks(made))
