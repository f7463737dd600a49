"""Tries a configuration with our handler in containerd's own `config dump`, before the real files are changed.

The trial's files are beside the real ones, because imports may be relative, with names that no import's *.toml matches.
"""

import glob
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from pouchrich import containerd_dump, handler
from pouchrich.cluster import block
from pouchrich.cluster.place import FILE_OF_OURS, HANDLER, MERGED, TEMPLATE, Place
from pouchrich.containerd_config import documents, is_ours
from pouchrich.node import InstallError
from pouchrich.node.layout import missing, remove_empty
from pouchrich.processes import look
from pouchrich.running import Running
from runtime.config.render import toml
from runtime.errors import NotFound, PouchrichError

TRIAL = ".pouchrich-trial"
_SHOWN = 3
Dump = Mapping[str, Any]


def dump(one: Running, version: int = 2) -> Dump:
    """containerd's present configuration; without a file the defaults, in format `version`.

    Raises InstallError where its program refuses; OSError.
    """
    try:
        if os.path.exists(one.config):
            return containerd_dump.dump(one.program, one.config)
        with _files(one) as (trial, _):  # its program refuses a path without a file
            _write(trial, f"version = {version}\n")
            return containerd_dump.dump(one.program, trial)
    except PouchrichError as err:
        raise InstallError(
            f"{one.config}: containerd refuses its present configuration, correct that first: {err}"
        ) from err


def has_handler(found: Dump) -> bool:
    """Whether a dump has our handler. Raises InstallError if the handler of that name is not ours."""
    handlers = containerd_dump.handlers(found)
    if HANDLER in handlers and not is_ours(handlers[HANDLER]):
        kind = handlers[HANDLER].get("runtime_type", "")
        raise InstallError(
            f"handler {HANDLER}: found one of another program, of type {kind!r}, allowed none: rename that one"
        )
    return HANDLER in handlers


def judge(found: Dump, before: Dump, path: str) -> None:
    """Raises InstallError if the dump `found` lacks our handler, or differs from `before` in more than the handler."""
    if not has_handler(found):
        raise InstallError(f"{path}: containerd would not read the handler there: see pouchrich doctor")
    if changed := containerd_dump.difference(found, before):
        more = f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise InstallError(
            f"{path}: the handler there would change more than itself: {'; '.join(changed[:_SHOWN])}{more}"
        )


def fit(one: Running, place: Place, before: Dump) -> Place:
    """The place, completed and judged by a trial, before any real file is changed. Raises InstallError; OSError.

    With 1.x a file that names any handler loses the default handlers, so these are repeated in it.
    """
    if place.how == MERGED:
        return place  # judged only after k0s has merged it; containerd has read it by then
    found = _run(one, place)
    names = containerd_dump.handlers(found)
    if lost := {name: table for name, table in containerd_dump.handlers(before).items() if name not in names}:
        plugin = handler.PLUGINS[place.version]
        tables = "".join(_tables(f'plugins."{plugin}".containerd.runtimes.{name}', lost[name]) for name in sorted(lost))
        place = place._replace(kept=tables)
        found = _run(one, place)
    judge(found, before, place.path)
    return place


def _tables(name: str, table: Mapping[str, Any]) -> str:
    values = "".join(f"  {key} = {toml(value)}\n" for key, value in table.items() if not isinstance(value, dict))
    inner = [_tables(f"{name}.{key}", value) for key, value in table.items() if isinstance(value, dict)]
    return "".join([f"[{name}]\n{values}", *inner])


def _run(one: Running, place: Place) -> Dump:
    try:
        with _files(one) as (trial, ours):
            if place.how == FILE_OF_OURS:
                _write(ours, place.text())
                _write(trial, _importing(one.config, ours))
            elif place.how == TEMPLATE:
                _write(trial, block.within(block.read(one.config) or "", place.kept + place.lines, one.config))
            else:
                _write(trial, place.text())
            return containerd_dump.dump(one.program, trial)
    except PouchrichError as err:
        raise InstallError(f"{place.path}: containerd refuses the handler there: {err}") from err


@contextmanager
def _files(one: Running) -> Iterator[tuple[str, str]]:
    """The paths for one trial: a configuration, and a file that it imports. Concurrent trials have other names."""
    trial = f"{one.config}{TRIAL}-{os.getpid()}"
    ours = f"{trial}-ours"
    made = list(missing(os.path.dirname(trial)))
    os.makedirs(os.path.dirname(trial), exist_ok=True)
    try:
        yield trial, ours
    finally:
        _forget(trial, ours)
        remove_empty(made)


def forget_killed(one: Running) -> None:
    """Remove the trial files of processes that are gone. Raises OSError."""
    for path in glob.glob(f"{glob.escape(one.config)}{TRIAL}-*"):
        pid = path.removeprefix(f"{one.config}{TRIAL}-").removesuffix("-ours")
        if not pid.isdigit() or look(int(pid)) is None:
            _forget(path)


def _forget(*paths: str) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _importing(path: str, ours: str) -> str:
    """The text of the configuration at `path`, with `ours` among its imports. Raises InstallError."""
    try:
        document = next(documents(path))[1]
    except NotFound:
        document = {}
    imports = [one for one in document.get("imports", []) if isinstance(one, str)]
    rest = containerd_dump.IMPORTS.sub("", block.read(path) or "")
    return f"imports = {toml([*imports, ours])}\n{rest}"


def _write(path: str, text: str) -> None:
    """Write a new file that only root can read: a configuration may hold a registry's password."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", newline="") as file:
        file.write(text)
