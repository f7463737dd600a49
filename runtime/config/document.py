"""Turns a whole configuration text into a `Config`, without touching the file system."""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from runtime.config.kinds import Refused, refuse, short_json, type_of
from runtime.config.model import Config
from runtime.config.schema import KEYS, SECTIONS
from runtime.config.tables import check_names
from runtime.errors import InvalidArgument

MAX_BYTES = 1 << 20
"""Configurations are written by hand and held by every pod server; 1 MiB is far more than any needs."""

_TOP = tuple(dict.fromkeys(key.name.partition(".")[0] for key in KEYS))

_CONTAINERD_KEYS = ("TypeUrl", "ConfigPath")
"""containerd 1.7 and later send a handler's whole options table as the text, including these two keys of its own."""


def _without_containerds_keys(document: dict[str, object]) -> dict[str, object]:
    for name in _CONTAINERD_KEYS:
        value = document.pop(name, "")
        if not isinstance(value, str):
            refuse(name, value, "a string")
        if name == "ConfigPath" and value:
            # containerd only sends the text if the path is empty, and a file may not name another file.
            refuse(name, value, "none here: a configuration file cannot name another one")
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
            raise Refused(name, type_of(value), "a table")
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
    """Read a configuration: a file's text, or the text that containerd made of a handler's options table.

    The last few results are cached: the spawner has read the node's, so its children need not parse it again. `source`
    names the configuration in errors and recorded decisions. Raises InvalidArgument in the form
    `SOURCE: KEY: found FOUND, allowed ALLOWED`; for text that is not TOML the line is named instead of a key.
    """
    if len(text) > MAX_BYTES:
        raise InvalidArgument(f"{source}: found {len(text)} characters, allowed at most {MAX_BYTES}")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as err:
        # ValueError is also raised for integers longer than int accepts, RecursionError for brackets nested too deeply.
        what = str(err) if isinstance(err, tomllib.TOMLDecodeError) else type(err).__name__
        raise InvalidArgument(f"{source}: found {short_json(what)}, allowed TOML with each key once") from err
    try:
        return _read(_without_containerds_keys(document), source)
    except Refused as err:
        raise InvalidArgument(f"{source}: {err}") from None


DEFAULT = replace(parse("version = 1", source="built in"), explicit=frozenset())
"""The configuration where a node has no file and the handler no options."""
