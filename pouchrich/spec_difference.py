"""What a plan changes in a spec, value by value. Pure.

Lists with named entries are compared by name: mounts by destination, variables by name. Other lists are single values.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from runtime.spec.edit import Spec

ABSENT: Any = None
"""Stands for a missing value: JSON's null."""

_HIDDEN = "..."


class Change(NamedTuple):
    """One changed value, with its path such as `process.args`, `mounts[/run]`, `process.env[PATH]`.

    `before` is ABSENT for an added value, `after` for a removed one.
    """

    path: str
    before: Any
    after: Any


def difference(before: Spec, after: Spec) -> tuple[Change, ...]:
    """All changes, in the order of the paths' first keys in `before`, then of `after`.

    Values of a pod's variables are often secret, and never made by us: the value of a removed one is not shown.
    """
    return tuple(_compared("", before, after))


def _compared(path: str, before: Any, after: Any) -> Iterator[Change]:
    if before == after:
        return
    if path == "process.env":
        yield from _named(path, _variables(before), _variables(after))
    elif path == "mounts":
        yield from _named(path, _mounts(before), _mounts(after))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            yield from _compared(f"{path}.{key}" if path else key, before.get(key), after.get(key))
    else:
        yield Change(path, before, after)


def _named(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old != new:
            hides = path == "process.env" and old is not None
            yield Change(f"{path}[{name}]", _HIDDEN if hides else old, new)


def _variables(value: Any) -> dict[str, str]:
    return {str(entry).partition("=")[0]: str(entry).partition("=")[2] for entry in value or ()}


def _mounts(value: Any) -> dict[str, Any]:
    """Destination -> mount; if several mounts have one destination, all but the first get a number."""
    found: dict[str, Any] = {}
    for entry in value or ():
        name = base = str(entry.get("destination")) if isinstance(entry, Mapping) else str(entry)
        number = 1
        while name in found:
            number += 1
            name = f"{base} #{number}"
        found[name] = entry
    return found
