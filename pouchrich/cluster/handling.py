"""The handler put into a containerd's configuration, and taken out again, whatever step a run is killed at.

Home's file CONFIGURED says, before anything is changed, which files are. Home's file OWED says, before and after that,
which process has read the configuration of before: as long as that one lives it has to be started anew.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass

from pouchrich.cluster import block, trial
from pouchrich.cluster.place import FILE_OF_OURS, LINES, MERGED, Place
from pouchrich.node import InstallError
from pouchrich.node.layout import Layout
from pouchrich.processes import look
from pouchrich.running import Running

CONFIGURED, OWED = "containerd.json", "restart-owed"


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that has our handler, or is about to: `how` and `head` are its Place's, `made` says we made it.

    `kind` and `socket` are of the containerd that reads it.
    """

    path: str
    how: str
    head: str
    made: bool
    kind: str
    socket: str


def recorded(layout: Layout) -> Changed | None:
    """The file that was changed, None for none.

    Raises InstallError where the record cannot be read; OSError."""
    path = f"{layout.home}/{CONFIGURED}"
    found = block.read(path)
    try:
        return None if found is None else Changed(**json.loads(found))
    except (ValueError, TypeError) as err:
        raise InstallError(f"{path}: found {err}: remove it, and our lines from containerd's files by hand") from err


def put(layout: Layout, one: Running, place: Place) -> bool:
    """Have the handler be in `place`, and nowhere else; whether that changed anything. The caller has the lock.

    Raises InstallError, after which no file has the handler that had it not before; OSError.
    """
    trial.forget(*trial.files(one))
    former = recorded(layout)
    if former is not None:
        if former.path == place.path and place.is_done():
            return False
        take_out(layout, one)  # what runs has the handler still
    before = trial.dump(one, place.version)
    if trial.has_handler(before):
        print(f"kept the handler that {one.config} has already")
        return former is not None
    place = trial.fit(one, place, before)
    changed = Changed(place.path, place.how, place.head, not os.path.lexists(place.path), one.kind, one.socket)
    layout.make_directory_of(place.path)
    block.replace(f"{layout.home}/{CONFIGURED}", json.dumps(asdict(changed)))
    _owe(layout, one)
    block.replace(place.path, place.text())
    _owe(layout, one)
    if place.how in (FILE_OF_OURS, LINES):
        try:
            trial.judge(trial.dump(one), before, place.path)
        except InstallError:
            take_out(layout, one)
            raise
    print(f"put the handler into {place.path} ({place.how})")
    return True


def take_out(layout: Layout, one: Running | None) -> bool:
    """Have no file hold the handler that this program put there; whether one did. The caller has the lock.

    `one` is the containerd that reads it, None where none runs. Raises InstallError, OSError.
    """
    changed = recorded(layout)
    if changed is None:
        return False
    if one is not None:
        _owe(layout, one)
    block.forget(changed.path)
    found = block.read(changed.path)
    if found is not None:
        if changed.how in (FILE_OF_OURS, MERGED):
            block.replace(changed.path, None)
        else:
            rest = block.without(found, changed.path)
            block.replace(changed.path, None if changed.made and rest in ("", changed.head) else rest)
    if one is not None:
        _owe(layout, one)
    _forget(f"{layout.home}/{CONFIGURED}")
    return True


def is_owed(layout: Layout) -> bool:
    """Whether any containerd was to be started anew. Raises OSError."""
    return os.path.exists(f"{layout.home}/{OWED}")


def owes_restart(layout: Layout, one: Running) -> bool:
    """Whether this containerd's process has not read its configuration since it was changed. Raises OSError."""
    found = block.read(f"{layout.home}/{OWED}")
    if found is None:
        return False
    if found.strip() == _identity(one):
        return True
    _forget(f"{layout.home}/{OWED}")
    return False


def _owe(layout: Layout, one: Running) -> None:
    block.replace(f"{layout.home}/{OWED}", f"{_identity(one)}\n")


def _identity(one: Running) -> str:
    process = look(one.pid)
    return "" if process is None else f"{one.pid} {process.started_ticks}"


def _forget(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
