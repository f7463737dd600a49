"""What a configuration value may be: one `Kind` per sort of value, each with a text for what it allows.

A kind turns a TOML or JSON value into the value that the program uses, or raises `Refused` with what was found and what
is allowed. Types are strict: a boolean is not an integer, an integer is not a string. Nothing here knows a key's name,
a file or the origin of a value: `runtime.config.schema` has the names, `runtime.config.document` the files.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

NAME_PATTERN = r"[A-Za-z0-9@_.:-]+"
"""The names of services, agents and hooks. They become parts of unit names and file names."""

MAX_TEXT = 4096
"""The most characters of one string in a configuration: PATH_MAX, which is also more than any sensible argument."""


class Refused(Exception):
    """A value is not of its kind. `key` is the value's full name, such as `hooks.prestart[1].timeout`."""

    def __init__(self, key: str, found: str, allowed: str) -> None:
        super().__init__(f"{key}: found {found}, allowed {allowed}")


def _same(value: Any) -> Any:
    return value


class Kind(NamedTuple):
    """`read(value, key)` gives the value to use or raises Refused; `plain(value)` gives TOML's form back.

    `suffix` is what the attribute's name has beyond the key's: `start-timeout` is `start_timeout_s`. `plural` is
    `allowed` for several values, for lists.
    """

    type: str
    allowed: str
    read: Callable[[object, str], Any]
    plain: Callable[[Any], object] = _same
    suffix: str = ""
    plural: str = ""


def short_json(value: object) -> str:
    """`value` for an error message: as JSON, ASCII only, at most 80 characters."""
    if isinstance(value, Mapping):
        return "a table"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # TOML dates, and lists nested too deeply
        text = ascii(str(value)) if not isinstance(value, list) else "a list"
    return text if len(text) <= 80 else f"{text[:77]}..."


def type_of(value: object) -> str:
    """The type of `value` for an error message, where the value may be secret: part of a command, or a variable.

    Pods' users see the errors of a node's configuration as events of their pods.
    """
    if isinstance(value, str):
        length = f" of {len(value)} characters" if len(value) > MAX_TEXT else ""
        return f"a string{length or ('' if is_text(value) else ' with NUL or half of a surrogate pair')}"
    names = {bool: "a boolean", int: "an integer", float: "a number", list: "a list"}
    return names.get(type(value), "a table" if isinstance(value, Mapping) else "a date or time")


def refuse(key: str, value: object, allowed: str) -> NoReturn:
    """Raise Refused for `value`."""
    raise Refused(key, short_json(value), allowed)


def is_text(value: object) -> bool:
    """Whether `value` is a string that the kernel accepts as one argument: no NUL, no lone surrogate."""
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


def _read_argument(value: object, key: str) -> str:
    if not isinstance(value, str) or not is_text(value) or len(value) > MAX_TEXT:
        raise Refused(key, type_of(value), ARGUMENT.allowed)
    return value


ARGUMENT = Kind("string", "a string without NUL", _read_argument)
"""One word of a command. Errors do not quote it: it may be a secret."""


def text(pattern: str, allowed: str, plural: str = "") -> Kind:
    """A string of at most MAX_TEXT characters that matches the whole `pattern`."""
    compiled = re.compile(pattern)

    def read(value: object, key: str) -> str:
        if not isinstance(value, str) or not is_text(value) or len(value) > MAX_TEXT:
            refuse(key, value, allowed)
        if compiled.fullmatch(value) is None:
            refuse(key, value, allowed)
        return value

    return Kind("string", allowed, read, plural=plural)


def choice(*names: str) -> Kind:
    """One of `names`."""
    allowed = ", ".join(names)

    def read(value: object, key: str) -> str:
        if not isinstance(value, str) or value not in names:
            refuse(key, value, allowed + (suggestion(value, names) if isinstance(value, str) else ""))
        return value

    return Kind("string", allowed, read)


def _read_boolean(value: object, key: str) -> bool:
    if not isinstance(value, bool):
        refuse(key, value, BOOLEAN.allowed)
    return value


BOOLEAN = Kind("boolean", "true, false", _read_boolean)


def _read_switch(value: object, key: str) -> bool | None:
    if value == "auto":
        return None
    if not isinstance(value, bool):
        refuse(key, value, SWITCH.allowed)
    return value


SWITCH = Kind("boolean or string", 'true, false, "auto"', _read_switch, plain=lambda v: "auto" if v is None else v)
"""A boolean that may be left to the program: `"auto"` is read as None."""


def integer(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`, both included."""
    allowed = f"an integer from {low} to {high}" if low != high else str(low)

    def read(value: object, key: str) -> int:
        if type(value) is not int or not low <= value <= high:
            refuse(key, value, allowed)
        return value

    return Kind("integer", allowed, read)


_DURATION = re.compile(r"(?:(\d{1,9})h)?(?:(\d{1,9})m(?!s))?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?", re.ASCII)


def parse_duration(value: str) -> float | None:
    """The seconds of a duration such as `1m30s`, with units h, m, s, ms in that order; None for another text."""
    found = _DURATION.fullmatch(value)
    if found is None or not value:
        return None
    hours, minutes, seconds, millis = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000


def format_duration(seconds: float) -> str:
    """The shortest duration text for `seconds`, exact to the millisecond."""
    millis = round(seconds * 1000)
    parts = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def duration(low: str, high: str) -> Kind:
    """Seconds, from a text such as `1m30s` or a whole number of seconds, from `low` to `high`."""
    low_s, high_s = parse_duration(low), parse_duration(high)
    assert low_s is not None
    assert high_s is not None
    allowed = f'a duration from {low} to {high}, such as "90s" or "1m30s", or an integer of seconds'

    def read(value: object, key: str) -> float:
        seconds: float | None = None
        if type(value) is int:
            seconds = value
        elif isinstance(value, str):
            seconds = parse_duration(value)
        if seconds is None or not low_s <= seconds <= high_s:
            refuse(key, value, allowed)
        return float(seconds)

    return Kind("duration", allowed, read, plain=format_duration, suffix="_s")


_SIZES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def size(low: int) -> Kind:
    """Bytes, from an integer or a text with one of the units Ki, Mi, Gi; at least `low`."""
    allowed = f'at least {low} bytes, as an integer or with a unit (Ki, Mi, Gi) such as "64Mi"'
    form = re.compile(r"(\d{1,18})(Ki|Mi|Gi)?", re.ASCII)

    def read(value: object, key: str) -> int:
        count = -1
        if type(value) is int:
            count = value
        elif isinstance(value, str) and (found := form.fullmatch(value)):
            count = int(found[1]) * _SIZES[found[2] or ""]
        if not low <= count < 2**63:
            refuse(key, value, allowed)
        return count

    return Kind("size", allowed, read, suffix="_bytes")


def _read_path(value: object, key: str) -> str:
    if not isinstance(value, str) or not is_text(value) or len(value) > MAX_TEXT:
        refuse(key, value, PATH.allowed)
    parts = value.split("/")
    # No "..": the text is compared with other paths, and the kernel resolves ".." after symbolic links, not before.
    if not value.startswith("/") or any(part in ("", ".", "..") for part in parts[1:]):
        refuse(key, value, PATH.allowed)
    return value


PATH = Kind("path", "an absolute path other than /, without empty, . or .. components", _read_path)


def _read_program(value: object, key: str) -> str:
    try:
        return _read_path(value, key)
    except Refused:
        if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_./-]*", value):
            raise
        raise Refused(key, type_of(value), PATH.allowed) from None


PROGRAM = Kind("path", PATH.allowed, _read_program)
"""The path of a program. An error quotes one word alone: with blanks it may be a whole command line, with secrets."""


def list_of(item: Kind, *, at_most: int, at_least: int = 0, distinct: bool = False) -> Kind:
    """A tuple of `item`s. `distinct` refuses equal items."""
    allowed = f"a list of {item.plural or item.allowed}"

    def read(value: object, key: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Refused(key, type_of(value), allowed)
        if not at_least <= len(value) <= at_most:
            raise Refused(key, f"{len(value)} items", f"{at_least} to {at_most} items")
        items = tuple(item.read(one, f"{key}[{index}]") for index, one in enumerate(value))
        if distinct and len(set(items)) != len(items):
            raise Refused(key, "the same item twice", "each item once")
        return items

    return Kind(f"list of {item.type}s", allowed, read, plain=lambda v: [item.plain(one) for one in v])


def _read_env(value: object, key: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise Refused(key, type_of(value), ENV.allowed)
    if len(value) > 256:
        raise Refused(key, f"{len(value)} items", "at most 256 items")
    for name, content in value.items():
        if not name or "=" in name or not is_text(name):
            found = (
                "a name with =" if "=" in name else "a name with NUL or half a surrogate" if name else "an empty name"
            )
            raise Refused(key, found, "non-empty names without = and NUL")
        if not is_text(content):
            raise Refused(f"{key}.{name}", type_of(content), ARGUMENT.allowed)
    return tuple(value.items())


ENV = Kind("table of strings", "a table of strings", _read_env, plain=dict)
"""Environment entries, in the order written."""


def suggestion(name: str, known: Sequence[str]) -> str:
    """` (did you mean X)` where one of `known` is close to `name`, else the empty string."""
    from difflib import get_close_matches  # imported only where something is wrong already

    close = get_close_matches(name[:256].lower().replace("_", "-"), known, n=1)
    return f" (did you mean {close[0]})" if close else ""
