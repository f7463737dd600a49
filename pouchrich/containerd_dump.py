"""What our handlers change in containerd's configuration besides themselves, by its `config dump` with and without.

containerd 1.x replaces a plugin's whole section by that of a file imported later, and 2.x drops the CRI section of a
file in format version 2 where one in version 3 is imported (measured: 1.6.20, 1.7.24, 2.1.9). So a handler in a file of
its own may remove the site's sandbox image and `runtimes.runc` for every pod, without a word from containerd.
"""

import copy
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pouchrich.containerd_config import CRI_PLUGINS, ON_PATH, documents, is_ours
from pouchrich.containerd_config import handlers as our_handlers
from pouchrich.program import Program, failure
from runtime.config.render import toml
from runtime.errors import InvalidArgument, NotFound, RuntimeFailed

_TIMEOUT_S = 20.0
_HEADER = re.compile(r"^\s*\[\[?([^\[\]]*)\]\]?\s*(#.*)?$")
IMPORTS = re.compile(r"^[ \t]*imports[ \t]*=[ \t]*\[[^\]]*\][^\n]*$", re.MULTILINE)


class Refused(RuntimeFailed):
    """containerd would not start with the configuration."""


def changed(path: str, *, containerd: Program = ON_PATH) -> tuple[str, ...]:
    """The keys outside our handlers that would have other values without our handlers, in the configuration at `path`.

    Each reads `KEY: found VALUE, without us VALUE`. Raises NotFound, InvalidArgument where a file cannot be split,
    RuntimeFailed where `containerd` cannot be run, OSError.
    """
    with tempfile.TemporaryDirectory(prefix="pouchrich-") as scratch:
        copies, has_any = [], False
        for number, (source, document) in enumerate(documents(path)):
            with open(source, encoding="utf-8") as file:
                text = file.read()
            rest, has_ours, is_all_ours = _without_ours(text, document, source)
            has_any |= has_ours
            if is_all_ours and number:  # without us the file would not exist
                continue
            copies.append(f"{scratch}/{number}.toml")
            with open(copies[-1], "w", encoding="utf-8") as file:
                file.write(rest)
        if not has_any:
            return ()
        top = f"{scratch}/top.toml"
        with open(copies[0], encoding="utf-8") as file:
            first = file.read()
        with open(top, "w", encoding="utf-8") as file:
            file.write(f"imports = {toml(copies[1:])}\n{first}")
        here, without = dump(containerd, path), dump(containerd, top)
    return difference(here, without)


def difference(ours: Mapping[str, Any], others: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys outside our handlers in which a dump with them, `ours`, differs from one without; see `changed`."""
    here, without = _flat(ours), _flat(others)
    values = sorted(key for key in here.keys() & without.keys() if here[key] != without[key])
    gone = {_whole(key, here) for key in without.keys() - here.keys()}
    come = {_whole(key, without) for key in here.keys() - without.keys()}
    return (
        *(
            f"{_named(key)}: found {_shown(here[key])}, without the shim's handlers {_shown(without[key])}"
            for key in values
        ),
        *(f"{_named(key)}: found nothing, without the shim's handlers it is there" for key in sorted(gone)),
        *(f"{_named(key)}: found it, without the shim's handlers nothing" for key in sorted(come)),
    )


def _whole(key: tuple[str, ...], others: Mapping[tuple[str, ...], Any]) -> tuple[str, ...]:
    """The outermost table above `key` of which `others` has no key."""
    known = {other[:length] for other in others for length in range(len(other) + 1)}
    return next(key[:length] for length in range(1, len(key) + 1) if key[:length] not in known)


def _named(key: tuple[str, ...]) -> str:
    return ".".join(name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"' for name in key)


def _shown(value: Any) -> str:
    return toml(value)[:100]


def dump(containerd: Program, path: str) -> dict[str, Any]:
    """The configuration at `path` as the program `containerd` dumps it, merged and with defaults.

    Raises RuntimeFailed where it cannot be run, Refused where it refuses the file.
    """
    try:
        return tomllib.loads(containerd.output("--config", path, "config", "dump", timeout_s=_TIMEOUT_S))
    except subprocess.CalledProcessError as err:
        said = err.stderr.decode(errors="replace").strip().splitlines()
        raise Refused(f"{containerd} config dump: {said[-1] if said else f'exit status {err.returncode}'}") from err
    except (OSError, subprocess.SubprocessError, ValueError) as err:
        raise RuntimeFailed(f"{containerd} config dump: {failure(err)}") from err


def unread(path: str, *, major: int, containerd: Program) -> tuple[str, ...]:
    """Where containerd `major`.x does not see our handlers, for example in a section of another format.

    Empty if that cannot be found out.
    """
    try:
        named = {one.name: one.source for one in our_handlers(path, major=major)}
        seen = handlers(dump(containerd, path))
    except (NotFound, InvalidArgument, RuntimeFailed):
        return ()
    return tuple(named[name] for name in sorted(named.keys() - seen.keys()))


def handlers(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """All handlers of a dump, by name."""
    return {name: table for _, tables in runtimes(document) for name, table in tables.items()}


def _flat(document: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Full key (with its tables) -> value, without our handlers and the list of imports."""
    document = copy.deepcopy(dict(document))
    for _, tables in runtimes(document):
        for name in [name for name, table in tables.items() if is_ours(table)]:
            del tables[name]
    found: dict[tuple[str, ...], Any] = {}
    pending: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), document)]
    while pending:
        above, table = pending.pop()
        for name, value in table.items():
            if isinstance(value, dict):
                pending.append(((*above, name), value))
            elif (*above, name) != ("imports",):
                found[*above, name] = value
    return found


def runtimes(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each CRI plugin of a configuration or dump, with its table of handlers."""
    for plugin in CRI_PLUGINS:
        table: Any = document.get("plugins")
        for name in (plugin, "containerd", "runtimes"):
            table = table.get(name) if isinstance(table, dict) else None
        if isinstance(table, dict):
            yield plugin, table


def _without_ours(text: str, document: Mapping[str, Any], source: str) -> tuple[str, bool, bool]:
    """A file's text without our handlers and its imports; whether it had any of ours; and whether it had nothing else.

    Raises InvalidArgument.
    """
    ours = [(plugin, name) for plugin, table in runtimes(document) for name in table if is_ours(table[name])]
    rest = without(text, ours, source, keeps_imports=False)
    return rest, bool(ours), bool(ours) and not pruned(tomllib.loads(rest)).keys() - {"version"}


def without(text: str, ours: Sequence[tuple[str, str]], source: str, *, keeps_imports: bool = True) -> str:
    """A file's text without the tables of the handlers `ours`, each a plugin and a name, and perhaps its imports.

    The result is checked by parsing it. Raises InvalidArgument, naming the file `source`, where a handler is not in a
    table of its own.
    """
    kept, skipping = [], False
    for line in (text if keeps_imports else IMPORTS.sub("", text)).splitlines(keepends=True):
        if (header := _HEADER.match(line)) is not None:
            path = _path(header[1])
            skipping = any(path[:5] == ["plugins", plugin, "containerd", "runtimes", name] for plugin, name in ours)
        if not skipping:
            kept.append(line)
    rest = "".join(kept)
    wanted = tomllib.loads(text)
    if not keeps_imports:
        wanted.pop("imports", None)
    for plugin, table in runtimes(wanted):
        for name in [name for found, name in ours if found == plugin]:
            del table[name]
    if pruned(tomllib.loads(rest)) != pruned(wanted):
        raise InvalidArgument(
            f"{source}: found the shim's handler in a form that cannot be removed, allowed a table of its own"
        )
    return rest


def _path(header: str) -> list[str]:
    """The parts of a table header's dotted key."""
    found: Any = tomllib.loads(f"[{header}]")
    parts = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        parts.append(name)
    return parts


def pruned(document: Mapping[str, Any]) -> dict[str, Any]:
    """`document` without empty tables."""
    found = {name: pruned(value) if isinstance(value, dict) else value for name, value in document.items()}
    return {name: value for name, value in found.items() if value != {}}
