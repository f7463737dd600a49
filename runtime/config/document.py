"""A whole configuration text to a `Config`, without touching the file system."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from runtime.config.kinds import Refused, refuse, shown
from runtime.config.model import Config
from runtime.config.schema import KEYS, SECTIONS
from runtime.config.tables import check_names
from runtime.errors import InvalidArgument

MAX_BYTES = 1 << 20
"""A configuration is read by hand and held by every pod server; 1 MiB is far beyond any of these."""

_TOP = tuple(dict.fromkeys(key.name.partition(".")[0] for key in KEYS))

_CONTAINERD_KEYS = ("TypeUrl", "ConfigPath")
"""containerd 1.7 and later send a handler's whole options table as the text, its own two keys included."""


def _without_containerds_keys(document: dict[str, object]) -> dict[str, object]:
    for name in _CONTAINERD_KEYS:
        value = document.pop(name, "")
        if not isinstance(value, str):
            refuse(name, value, "a string")
        if name == "ConfigPath" and value:
            # containerd sends the text only where the path is empty, and no file may name another.
            refuse(name, value, "nothing: a configuration cannot name another")
    return document


def _explicit(document: Mapping[str, object]) -> frozenset[str]:
    names = set()
    for name, value in document.items():
        if name in SECTIONS and isinstance(value, Mapping):
            names |= {f"{name}.{inner}" for inner in value}
        else:
            names.add(name)
    return frozenset(names)


def _read(document: Mapping[str, object], source: str) -> Config:
    check_names(document, _TOP, "")
    sections: dict[str, Mapping[str, object]] = {}
    for name in SECTIONS:
        value = document.get(name, {})
        if not isinstance(value, Mapping):
            refuse(name, value, "a table")
        known = tuple(key.name.partition(".")[2] for key in KEYS if key.name.startswith(f"{name}."))
        check_names(value, known, f"{name}.")
        sections[name] = value
    built: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    top: dict[str, object] = {}
    for key in KEYS:
        section, dot, _ = key.name.partition(".")
        if dot:
            built[section][key.attribute] = key.value(sections[section], key.name)
        else:
            top[key.attribute] = key.value(document, key.name)
    parts = {name: build(**built[name]) for name, build in SECTIONS.items()}
    return Config(source=source, explicit=_explicit(document), **parts, **top)  # type: ignore[arg-type]


@lru_cache(maxsize=4)
def parse(text: str, *, source: str) -> Config:
    """Read a configuration: a file's text, or the text containerd made of a handler's options table.

    The last few are remembered: the spawner has read the node's, so its children need not do so again.
    `source` is how errors and recorded decisions name it. Raises InvalidArgument in the form
    `SOURCE: KEY: found FOUND, allowed ALLOWED`; for text that is not TOML the key is missing and the line is
    named.
    """
    if len(text) > MAX_BYTES:
        raise InvalidArgument(f"{source}: found {len(text)} characters, allowed {MAX_BYTES}")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as err:
        # ValueError also covers integers beyond int's text limit; RecursionError brackets nested beyond
        # reason.
        what = str(err) if isinstance(err, tomllib.TOMLDecodeError) else type(err).__name__
        raise InvalidArgument(f"{source}: found {shown(what)}, allowed TOML with each key once") from err
    try:
        return _read(_without_containerds_keys(document), source)
    except Refused as err:
        raise InvalidArgument(f"{source}: {err}") from None


DEFAULT = replace(parse("version = 1", source="built in"), explicit=frozenset())
"""What holds where a node has no file and the handler no options."""
