"""Our handler in a file of somebody else's from which our marks are gone: nvidia-ctk, for one, drops all comments."""

import tomllib
from collections.abc import Mapping
from typing import Any

from pouchrich import containerd_dump
from pouchrich.cluster.place import HANDLER
from pouchrich.containerd_config import is_ours
from pouchrich.handler import RUNTIME_TYPE
from pouchrich.node import InstallError
from runtime.errors import InvalidArgument


def is_in(text: str) -> bool:
    """Whether a file may have our handler: it has our runtime type, in whatever form."""
    return RUNTIME_TYPE in text


def without(text: str, path: str) -> str:
    """`text` without the tables of our handler. Raises InstallError, naming `path`, where they cannot be removed."""
    if not is_in(text):
        return text
    try:
        tables = containerd_dump.runtimes(tomllib.loads(text))
        ours = [(plugin, HANDLER) for plugin, table in tables if is_ours(table.get(HANDLER))]
        return containerd_dump.without(text, ours, path) if ours else text
    except (ValueError, InvalidArgument) as err:  # the former: not TOML, as a template
        raise InstallError(
            f"{path}: found the handler {HANDLER} without pouchrich's marks, in a form that cannot be removed: "
            "remove its table by hand, then run this again"
        ) from err


def is_empty(text: str, head: str) -> bool:
    """Whether a file has nothing but `head`, the beginning of a file of ours, and empty tables."""
    try:
        return containerd_dump.pruned(tomllib.loads(text)) == tomllib.loads(head)
    except ValueError:
        return False


def is_as(found: Mapping[str, Any], lines: str) -> bool:
    """Whether a dump has our handler as `lines` say. containerd adds defaults to it: of runtime_path ""."""
    handlers = containerd_dump.handlers(found)
    wanted = {"runtime_path": "", **containerd_dump.handlers(tomllib.loads(lines))[HANDLER]}
    return HANDLER in handlers and _has(handlers[HANDLER], wanted)


def _has(table: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(
        _has(table.get(key, {}), value) if isinstance(value, dict) else table.get(key, "") == value
        for key, value in wanted.items()
    )
