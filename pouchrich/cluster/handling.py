"""Adds the handler to a containerd's configuration and removes it again, even if a run is killed at any step.

The file CONFIGURED in the installation's home records which file is changed, before it is changed. The file OWED there,
written before and after the change, says which processes have not read it: containerds that were started before the
change was complete must be restarted.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from pouchrich import running
from pouchrich.cluster import block, trial, unmarked
from pouchrich.cluster.place import FILE_OF_OURS, IN_LINES, LINES, Place
from pouchrich.node import InstallError
from pouchrich.node.layout import Layout
from pouchrich.processes import TICKS_PER_S, look
from pouchrich.running import Running
from runtime.bundle import from_fields

CONFIGURED, OWED = "containerd.json", "restart-owed"
BOOT = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that has our handler, or is about to get it: `how` and `head` are its Place's, `made`: we made the file.

    `kind` and `socket` are those of the containerd that reads the file.
    """

    path: str
    how: str
    head: str
    made: bool
    kind: str
    socket: str


@dataclass(frozen=True, slots=True)
class Owed:
    """A containerd whose configuration was changed: processes started until `until_ticks` have not read the change.

    Ticks count from the boot with id `boot`. None: a change is under way, which no process has read completely.
    """

    kind: str
    socket: str
    boot: str
    until_ticks: int | None


def recorded(layout: Layout) -> Changed | None:
    """The record of the changed file, None if there is none.

    Raises InstallError where the record cannot be read; OSError."""
    path = f"{layout.home}/{CONFIGURED}"
    found = block.read(path)
    try:
        return None if found is None else from_fields(Changed, json.loads(found))
    except (ValueError, TypeError) as err:
        raise InstallError(
            f"{path}: found no record that this version can read: remove this file, and pouchrich's lines from"
            " containerd's configuration, by hand"
        ) from err


def owed(layout: Layout) -> Owed | None:
    """The containerd that must be restarted; None if there is none, or the node has booted since.

    Raises InstallError where the record cannot be read; OSError.
    """
    path = f"{layout.home}/{OWED}"
    found = block.read(path)
    try:
        one = None if found is None else from_fields(Owed, json.loads(found))
    except (ValueError, TypeError) as err:
        raise InstallError(
            f"{path}: found no record that this version can read: restart containerd, and remove this file"
        ) from err
    return None if one is None or one.boot != block.read(BOOT) else one


def put(layout: Layout, one: Running, place: Place) -> bool:
    """Put the handler into `place`, and remove it elsewhere; return whether anything changed. The caller has the lock.

    Raises InstallError, after which the same files as before have the handler; OSError.
    """
    trial.forget_killed(one)
    former = recorded(layout) or _adopted(layout, one, place)
    if former is None:
        return _put(layout, one, place)
    if former.socket != one.socket and any(other.pid for other in running.find(((former.kind, former.socket),))):
        raise InstallError(
            f"{former.path}: found the handler of {former.kind} at {former.socket}, allowed one containerd: "
            "run pouchrich node uninstall first"
        )
    debt = owed(layout)
    if former.path == place.path and (place.is_done() or _is_done_unmarked(one, former, place)):
        if debt is not None and debt.until_ticks is None:  # the run that changed the file was killed
            _owe(layout, one)
        return False
    text = block.read(former.path)
    take_out(layout, one)  # the running containerd still has the handler
    try:
        _put(layout, one, place)
    except (InstallError, OSError):
        block.replace(f"{layout.home}/{CONFIGURED}", json.dumps(asdict(former)))
        block.replace(former.path, text)
        _write(layout, debt)
        raise
    return True


def _is_done_unmarked(one: Running, former: Changed, place: Place) -> bool:
    """Whether containerd has the handler from the file `former` although our marks are gone. Raises InstallError."""
    found = block.read(former.path)
    if former.how != LINES or place.how != LINES or found is None or block.lines(found) is not None:
        return False
    return unmarked.is_in(found) and unmarked.is_as(trial.dump(one, place.version), place.lines)


def _adopted(layout: Layout, one: Running, place: Place) -> Changed | None:
    """Record a handler that an earlier run, whose record is gone, has put into `place`; None if there is none."""
    found = block.read(place.path)
    if found is None or not (place.is_done() or (place.how in IN_LINES and block.lines(found) is not None)):
        return None
    changed = Changed(place.path, place.how, place.head, False, one.kind, one.socket)
    layout.make()
    block.replace(f"{layout.home}/{CONFIGURED}", json.dumps(asdict(changed)))
    return changed


def _put(layout: Layout, one: Running, place: Place) -> bool:
    """`put`, when this program has put the handler into no file yet."""
    before = trial.dump(one, place.version)
    if trial.has_handler(before):
        print(f"kept the handler that is already in {one.config}")
        return False
    place = trial.fit(one, place, before)
    changed = Changed(place.path, place.how, place.head, not os.path.lexists(place.path), one.kind, one.socket)
    layout.make_directory_of(place.path)
    block.replace(f"{layout.home}/{CONFIGURED}", json.dumps(asdict(changed)))
    _begin(layout, one)
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
    """Remove the handler from the file that this program put it into; return whether there was one.

    The caller has the lock. `one` is the containerd that reads the file, None if none runs. Raises InstallError, after
    which nothing was changed; OSError.
    """
    changed = recorded(layout)
    if changed is None:
        return False
    found = block.read(changed.path)
    rest = None if found is None else _without_us(changed, found)
    if one is not None:
        _begin(layout, one)
    block.forget(changed.path)
    if found is not None:
        block.replace(changed.path, rest)
    if one is None:
        settle(layout)
    else:
        _owe(layout, one)
    _forget(f"{layout.home}/{CONFIGURED}")
    return True


def _without_us(changed: Changed, text: str) -> str | None:
    """The changed file's text without the handler; None if the file is to be removed. Raises InstallError."""
    if changed.how not in IN_LINES:
        return None
    rest = block.without(text, changed.path)
    if rest == text:
        rest = unmarked.without(text, changed.path)
        is_ours = rest != text and unmarked.is_empty(rest, changed.head)
    else:
        is_ours = rest in ("", changed.head)
    return None if changed.made and is_ours else rest


def owes_restart(layout: Layout, one: Running) -> bool:
    """Whether this containerd's process has not read the last change of its configuration.

    Raises InstallError, OSError.
    """
    debt = owed(layout)
    if debt is None or debt.socket != one.socket:
        return False
    process = look(one.pid)
    return process is not None and (debt.until_ticks is None or process.started_ticks <= debt.until_ticks)


def settle(layout: Layout) -> None:
    """Note that no containerd must be restarted. The caller has the lock. Raises OSError."""
    _forget(f"{layout.home}/{OWED}")


def _begin(layout: Layout, one: Running) -> None:
    """Note that the containerd's configuration is about to change."""
    _write(layout, Owed(one.kind, one.socket, block.read(BOOT) or "", None))


def _owe(layout: Layout, one: Running) -> None:
    """Note that the configuration has changed. A process that starts after this returns has a later start time."""
    now = int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS_PER_S)
    _write(layout, Owed(one.kind, one.socket, block.read(BOOT) or "", now))
    time.sleep(1 / TICKS_PER_S)


def _write(layout: Layout, debt: Owed | None) -> None:
    path = f"{layout.home}/{OWED}"
    block.replace(path, None if debt is None else json.dumps(asdict(debt)))


def _forget(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
