"""What a pod sets: `pouchrich.io/` annotations and PouchContainer's variables, checked against policy.

Their author is trusted with one pod at most. Values are bounded before they are parsed, and none becomes more than a
value: no path of the host, no user, no place but the container.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from runtime.config import kinds
from runtime.config.kinds import Kind, Refused, refuse, short_json, suggestion
from runtime.config.model import POD, Config, Hook
from runtime.config.signal_names import is_name
from runtime.config.tables import Key, named_tables, table
from runtime.config.values import COMMAND, MODES, NAME, POD_KEYS, hook_keys
from runtime.errors import InvalidArgument

PREFIX = "pouchrich.io/"

VARIABLES = {"rich": "rich_mode", "mode": "rich_mode_launch_manner"}
"""PouchContainer's variables, by the key that each stands for (its daemon/mgr/spec_process.go)."""

MAX_HOOKS = 16
MAX_JSON_BYTES = 64 * 1024


class Override(NamedTuple):
    """A value that the pod set. `is_own`: for this very container, not pod-wide. `source` is its name in errors."""

    value: Any
    source: str
    is_own: bool


def _fail(source: str, found: str, allowed: str) -> NoReturn:
    raise InvalidArgument(f"config.json: {source}: found {found}, allowed {allowed}")


def _boolean(text: str, key: str) -> bool:
    if text not in ("true", "false"):
        refuse(key, text, "true, false")
    return text == "true"


def _mode(text: str, key: str) -> str:
    value: str = kinds.choice(*MODES).read(text, key)
    return value


def _init_script(text: str, key: str) -> tuple[str, ...]:
    allowed = f"a command line of at most {kinds.MAX_TEXT} characters, quoted as in a shell"
    if not kinds.is_text(text) or len(text) > kinds.MAX_TEXT:
        refuse(key, text, allowed)
    try:
        words = shlex.split(text)
    except ValueError:
        refuse(key, text, allowed)
    if not words or not words[0]:
        refuse(key, text, allowed)
    command: tuple[str, ...] = COMMAND.read(words, key)
    return command


def _services(text: str, key: str) -> tuple[str, ...]:
    names = [part.strip() for part in text.split(",")]
    if len(names) > 64:
        raise Refused(key, f"{len(names)} names", "at most 64 names")
    return tuple(dict.fromkeys(NAME.read(name, key) for name in names))


def _signal(text: str, key: str) -> str:
    name = f"SIG{text.upper().removeprefix('SIG')}"
    if not is_name(name):
        refuse(key, text, "a signal's name such as SIGTERM, SIGQUIT or SIGRTMIN+3")
    return name


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {short_json(name)} twice")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _hooks(stage: str, config: Config) -> Callable[[str, str], tuple[Hook, ...]]:
    longest_s = config.hooks.pod_timeout_max_s
    special = {
        "where": Key("where", kinds.choice("container"), "container", ""),
        "timeout": Key(
            "timeout",
            kinds.duration("1s", kinds.format_duration(longest_s)),
            kinds.format_duration(min(30.0, longest_s)),
            "",
        ),
        # A pod's hook runs as the pod's user, and cannot make itself mandatory against its own author.
        "user": None,
        "mandatory": None,
    }
    ours = hook_keys("abort" if stage == "prestart" else "continue")
    keys = tuple(one for key in ours if (one := special.get(key.name, key)) is not None)

    def build(**attributes: Any) -> Hook:
        return Hook(**attributes, user=None, mandatory=False, owner=POD)

    kind: Kind = named_tables(table(keys, build), stage)

    def read(text: str, key: str) -> tuple[Hook, ...]:
        if (size := len(text.encode("utf-8", "surrogatepass"))) > MAX_JSON_BYTES:
            raise Refused(key, f"{size} bytes", f"at most {MAX_JSON_BYTES} bytes")
        try:
            value = json.loads(text, object_pairs_hook=_pairs, parse_constant=_no_constant)
        except (ValueError, RecursionError) as err:
            what = "brackets nested too deeply" if isinstance(err, RecursionError) else short_json(str(err))
            raise Refused(key, what, "a JSON list of hook tables, with each key once") from None
        if isinstance(value, list) and len(value) > MAX_HOOKS:
            raise Refused(key, f"{len(value)} hooks", f"at most {MAX_HOOKS} hooks")
        hooks: tuple[Hook, ...] = kind.read(value, key)
        return hooks

    return read


def _reader(key: str, config: Config) -> Callable[[str, str], Any]:
    readers: Mapping[str, Callable[[str, str], Any]] = {
        "rich": _boolean,
        "mode": _mode,
        "init-script": _init_script,
        "services": _services,
        "stop-signal": _signal,
    }
    return readers.get(key) or _hooks(key, config)


def _read(key: str, text: str, source: str, config: Config, *, is_own: bool) -> Override:
    allowed = config.rich.pod_override
    if key not in allowed:
        names = ", ".join(allowed) or "none"
        _fail(source, short_json(text), f"only the keys in rich.pod-override ({names}; {config.source})")
    try:
        return Override(_reader(key, config)(text, source), source, is_own)
    except Refused as err:
        raise InvalidArgument(f"config.json: {err}") from None


def _plain(name: str) -> str:
    """`name` as text for a message, which is sent as UTF-8: a name from JSON may not be UTF-8 (RFC 8259, 8.2)."""
    return name.encode("utf-8", "backslashreplace").decode()


def _addressed(annotations: Mapping[str, str], container: str) -> dict[str, tuple[str, bool]]:
    """By key, the annotation that applies to `container`, and whether it is the container's own."""
    chosen: dict[str, tuple[str, bool]] = {}
    for name in annotations:
        if not name.startswith(PREFIX):
            continue
        key, dot, whose = name.removeprefix(PREFIX).partition(".")
        if key not in POD_KEYS or (dot and not whose):
            known = ", ".join(POD_KEYS)
            hint = suggestion(key, POD_KEYS)
            allowed = f"{PREFIX}KEY or {PREFIX}KEY.CONTAINER with KEY one of {known}{hint}"
            _fail(f"annotation {name[:256]}", "an unknown key", allowed)
        if whose and whose == container:
            chosen[key] = (name, True)
        elif not whose:
            chosen.setdefault(key, (name, not container))
    return chosen


def _check_total(overrides: Mapping[str, Override], written: Mapping[str, str]) -> None:
    """Raise InvalidArgument for too many hooks or bytes in all. `written` has the overrides' texts by key."""
    stages = [key for key in ("prestart", "poststop") if key in overrides]
    count = sum(len(overrides[key].value) for key in stages)
    sources = " and ".join(overrides[key].source for key in stages)
    if count > MAX_HOOKS:
        _fail(sources, f"{count} hooks together", f"at most {MAX_HOOKS} hooks")
    total = sum(len(written[key].encode("utf-8", "surrogatepass")) for key in stages)
    if total > MAX_JSON_BYTES:
        _fail(sources, f"{total} bytes together", f"at most {MAX_JSON_BYTES} bytes")


def read_overrides(
    annotations: Mapping[str, str], env: Mapping[str, str], *, container: str, config: Config
) -> dict[str, Override]:
    """What the pod sets for its container `container`, by key.

    `container` is the container's name in its pod, empty outside a pod (then every annotation is the container's own).
    The annotation for this container takes precedence over the pod-wide one, and both over PouchContainer's variables
    in `env`. Raises InvalidArgument for an unknown key, a key that pods may not set, and a value that is not allowed.
    """
    addressed = _addressed(annotations, container)
    found = {
        key: _read(key, annotations[name], f"annotation {_plain(name)}", config, is_own=is_own)
        for key, (name, is_own) in addressed.items()
    }
    _check_total(found, {key: annotations[name] for key, (name, _) in addressed.items()})
    for key, variable in VARIABLES.items():
        if key not in found and variable in env:
            found[key] = _read(key, env[variable], f"variable {variable}", config, is_own=True)
    return found
