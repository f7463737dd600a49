"""The table of keys as text: the commented default file, a full configuration, the documentation's tables."""

import json
from collections.abc import Callable, Iterator, Mapping

from runtime.config.model import Config
from runtime.config.schema import KEYS, SECTIONS, TABLES
from runtime.config.tables import REQUIRED, Key

_HEADER = """\
# containerd-shim-pouchrich: node configuration. Every key with its default; a line without # is in force.
# A handler's ConfigPath or inline keys replace this file entirely. Check with: pouchrich config check FILE
"""


def toml(value: object) -> str:
    """`value` (string, boolean, integer, list, table) as a TOML value on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_name(name)} = {toml(one)}" for name, one in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    # JSON's strings are TOML's basic strings, except for DEL, which TOML requires to be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(name: str) -> str:
    return name if name and all(c.isascii() and (c.isalnum() or c in "-_") for c in name) else toml(name)


def default_of(key: Key) -> str:
    """A key's default as a file would have it, or words in its place."""
    if key.default is REQUIRED:
        return "required"
    return f"unset: {key.unset}" if key.default is None else toml(key.default)


def _sections() -> Iterator[tuple[str, list[Key]]]:
    for section in ("", *SECTIONS):
        yield section, [key for key in KEYS if key.name.rpartition(".")[0] == section]


def _comment(key: Key) -> list[str]:
    about = [f"# {key.meaning}"]
    if key.kind.type not in ("boolean", "list of tables"):
        about.append(f"# {key.kind.type}: {key.kind.allowed}")
    return about


def default_file() -> str:
    """A configuration file that sets only the version and has every other key as a comment."""
    lines = [_HEADER]
    for section, keys in _sections():
        if section:
            lines.append(f"[{section}]")
        for key in keys:
            lines += _comment(key)
            name = key.name.rpartition(".")[2]
            lines.append("version = 1" if name == "version" else _assignment(key, name))
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _assignment(key: Key, name: str) -> str:
    return f"#{name} =    # {default_of(key)}" if key.default is None else f"#{name} = {toml(key.default)}"


def effective(config: Config, *, shown: Callable[[object], object] = lambda value: value) -> str:
    """`config` in full as TOML, each value with its source. Parsing the text gives an equal Config.

    `shown` gives what to write in place of a value (string, boolean, integer, list, table).
    """
    lines = []
    for section, keys in _sections():
        if section:
            lines += ["", f"[{section}]"]
        holder = getattr(config, section) if section else config
        for key in keys:
            name, value = key.name.rpartition(".")[2], getattr(holder, key.attribute)
            source = config.source_of(key.name)
            if value is None and key.default is None:
                lines.append(f"# {name} is unset: {key.unset}")
            else:
                lines.append(f"{name} = {toml(shown(key.kind.plain(value)))}  # {source}")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(key: Key) -> str:
    default = default_of(key)
    shown = default if default == "required" or key.default is None else f"`{default}`"
    cells = (f"`{key.name}`", key.kind.type, shown, key.kind.allowed, key.meaning)
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _markdown(keys: tuple[Key, ...]) -> list[str]:
    return [
        "| Key | Type | Default | Allowed | Meaning |",
        "|---|---|---|---|---|",
        *(_row(key) for key in keys),
    ]


def markdown_tables() -> str:
    """The keys, then the keys of each inner table, as Markdown."""
    lines = _markdown(KEYS)
    for where, keys in TABLES.items():
        lines += ["", f"Keys of `{where}`:", "", *_markdown(keys)]
    return "\n".join(lines) + "\n"
