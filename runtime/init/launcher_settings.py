"""The launcher's settings: a spec's `process` as an `AppProcess`, and as the bytes that launcher/launch.h describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.config.kinds import short_json
from runtime.config.values import CAPABILITIES
from runtime.errors import InvalidArgument
from runtime.init.boot import AppProcess
from runtime.linux import oom_score
from runtime.spec import edit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_HEADER = "pouchrich-launch 1"
_ID_MAX = (1 << 32) - 2  # 2^32 - 1 is setresuid(2)'s "leave it"
_LIMIT_MAX = (1 << 64) - 1
# What runc and crun set where the spec names no umask.
_UMASK = 0o022

_CAPABILITY = {name: number for number, name in enumerate(CAPABILITIES)}

# <asm-generic/resource.h>, as x86-64 and arm64 have them: the index is the number.
RLIMITS = (
    *("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE"),
    *("MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"),
)
_RLIMIT = {f"RLIMIT_{name}": number for number, name in enumerate(RLIMITS)}


def encode(launch: AppProcess, *, stay: bool = False, passes_on: bool = False) -> bytes:
    """The settings file of `launch`.

    `stay`: the launcher remains as the application's parent; `passes_on`: it then forwards the signals that PID 1 sends
    to it. Raises InvalidArgument, naming the key, for what the format or execve(2) cannot hold: a NUL byte anywhere, no
    args. The length of values is not checked: the kernel refuses the exec as it would in any container.
    """
    if not launch.args:
        raise InvalidArgument("process.args: found none, allowed one or more")
    records: list[tuple[str, str]] = [("", _HEADER), *(("process", line) for line in _numbers(launch))]
    if stay:
        records.append(("process", "stay"))
        records.extend([("process", "pass-on")] if passes_on else [])
    records.append(("process.cwd", f"cwd {launch.cwd or '/'}"))
    records.extend((f"process.env[{index}]", f"env {word}") for index, word in enumerate(launch.env))
    records.extend((f"process.args[{index}]", f"arg {word}") for index, word in enumerate(launch.args))
    return b"".join(_record(key, text) for key, text in records)


def _record(key: str, text: str) -> bytes:
    if "\0" in text:
        raise InvalidArgument(f"{key}: found a NUL byte, allowed any other")
    try:
        return text.encode("utf-8", "surrogateescape") + b"\0"
    except UnicodeEncodeError as err:
        raise InvalidArgument(f"{key}: found a lone surrogate, allowed characters that UTF-8 has") from err


def _numbers(launch: AppProcess) -> Iterator[str]:
    yield f"uid {launch.uid}"
    yield f"gid {launch.gid}"
    yield from (f"group {group}" for group in launch.groups)
    for name in ("bounding", "permitted", "effective", "inheritable", "ambient"):
        yield f"{name} {getattr(launch, name):x}"
    if launch.no_new_privileges:
        yield "no-new-privs"
    for resource, soft, hard in launch.rlimits:
        yield f"rlimit {resource} {soft} {hard}"
    if launch.umask is not None:
        yield f"umask {launch.umask:o}"
    if launch.oom_score_adj is not None:
        yield f"oom-score-adj {launch.oom_score_adj}"
    if launch.terminal:
        yield "terminal"


def from_spec(
    spec: edit.Spec,
    *,
    args: Iterable[str] | None = None,
    home: str | None = None,
) -> AppProcess:
    """The process that an OCI runtime would make of `spec`, for the launcher to make.

    `args` replace the spec's, for a plan that has already changed them. `home` is the user's home in the image:
    like the OCI runtimes, this sets HOME to it where the environment has none. Also like them: of two variables
    with one name the last counts, and the default umask is 0022.

    Raises InvalidArgument naming the key of config.json, what was found and what is allowed.
    """
    process = edit.table(spec, "process")
    user = edit.table(process, "user", within="process.")
    capabilities = edit.table(process, "capabilities", within="process.")
    sets = {
        name: _mask(capabilities, name) for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
    }
    env = edit.env(spec)
    if home is not None:
        env.setdefault("HOME", home)
    umask = _number(user, "umask", 0, 0o777, within="process.user.")
    return AppProcess(
        args=edit.args(spec) if args is None else tuple(args),
        env=tuple(f"{name}={value}" for name, value in env.items()),
        cwd=_text(process, "cwd") or "/",
        uid=_number(user, "uid", 0, _ID_MAX, within="process.user.") or 0,
        gid=_number(user, "gid", 0, _ID_MAX, within="process.user.") or 0,
        groups=_groups(user),
        **sets,
        no_new_privileges=_flag(process, "noNewPrivileges"),
        rlimits=_rlimits(process),
        umask=_UMASK if umask is None else umask,
        oom_score_adj=_number(process, "oomScoreAdj", oom_score.RANGE[0], oom_score.RANGE[-1], within="process."),
        terminal=_flag(process, "terminal"),
    )


def _groups(user: Mapping[str, Any]) -> tuple[int, ...]:
    found = edit.items(user, "additionalGids", within="process.user.")
    named = {str(index): value for index, value in enumerate(found)}
    ids = [_number(named, key, 0, _ID_MAX, within="process.user.additionalGids.") for key in named]
    return tuple(dict.fromkeys(gid or 0 for gid in ids))


def _mask(capabilities: Mapping[str, Any], name: str) -> int:
    mask = 0
    for index, word in enumerate(edit.strings(capabilities, name, within="process.capabilities.")):
        if word not in _CAPABILITY:
            raise _wrong(f"process.capabilities.{name}[{index}]", word, f"{CAPABILITIES[0]} to {CAPABILITIES[-1]}")
        mask |= 1 << _CAPABILITY[word]
    return mask


def _rlimits(process: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    found: dict[int, tuple[int, int, int]] = {}
    for index, entry in enumerate(edit.items(process, "rlimits", within="process.")):
        key = f"process.rlimits[{index}]"
        if not isinstance(entry, dict):
            raise _wrong(key, entry, "an object")
        resource = _RLIMIT.get(str(entry.get("type")))
        if resource is None or resource in found:
            raise _wrong(f"{key}.type", entry.get("type"), f"one of {', '.join(_RLIMIT)}, each once")
        soft, hard = (_number(entry, name, 0, _LIMIT_MAX, within=f"{key}.") or 0 for name in ("soft", "hard"))
        if soft > hard:
            raise _wrong(f"{key}.soft", soft, f"at most its hard limit {hard}")
        found[resource] = (resource, soft, hard)
    return tuple(found.values())


def _number(parent: Mapping[str, Any], key: str, least: int, most: int, *, within: str) -> int | None:
    value = parent.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _wrong(f"{within}{key}", value, f"a whole number from {least} to {most}")
    return value


def _text(process: Mapping[str, Any], key: str) -> str:
    value = process.get(key) or ""
    if not isinstance(value, str):
        raise _wrong(f"process.{key}", value, "a string")
    return value


def _flag(process: Mapping[str, Any], key: str) -> bool:
    value = process.get(key) or False
    if not isinstance(value, bool):
        raise _wrong(f"process.{key}", value, "true or false")
    return value


def _wrong(key: str, value: object, allowed: str) -> InvalidArgument:
    return InvalidArgument(f"config.json: {key}: found {short_json(value)}, allowed {allowed}")
