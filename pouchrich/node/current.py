"""Switches to a version: the default configuration, the link that names the version, and the links on PATH.

One rename, of home's link CURRENT, makes the switch. A run that is killed before it has changed nothing in use. A run
that is killed after it leaves a working installation, which the next run recognises.
"""

import ctypes
import filecmp
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pouchrich.node import InstallError, kept
from pouchrich.node.layout import PROGRAMS, REJECTED, ROLLING_BACK, Layout, link_of, remove_empty
from shim.installed import replaced
from shim.installed.replaced import CURRENT, PREVIOUS
from shim.installed.version import IN_USE


def prepare(layout: Layout) -> None:
    """Check that nothing is in the way, and remove unused versions. The caller has the lock.

    `forget_unused` undoes it. Raises InstallError if a program of that name is not ours; OSError.
    """
    for path in layout.occupied():
        raise InstallError(f"{path}: found a file of another program: remove it first")
    for path in (layout.config, f"{layout.bin}/{PROGRAMS[0]}"):
        layout.make_directory_of(path)
    for path in replaced.remove_unused(layout.home, unfinished=True):
        print(f"removed {path}: nothing runs from it")


@contextmanager
def making(layout: Layout, name: str) -> Iterator[str]:
    """Make the directory of a version, and yield its path. On leaving, remove it unless it is the current version.

    The caller has the lock. Raises InstallError, OSError.
    """
    place = f"{layout.home}/{name}"
    try:
        os.mkdir(place)
    except FileExistsError:
        raise InstallError(f"{place}: already exists, try again") from None
    try:
        yield place
    finally:
        if layout.current() != name:
            shutil.rmtree(place, ignore_errors=True)


def forget_unused(layout: Layout) -> None:
    """Remove what `Layout.make` made, if no version was installed after all. The caller has the lock."""
    if layout.is_empty():
        made = [*layout.made(), *layout.own()]
        shutil.rmtree(layout.home, ignore_errors=True)
        remove_empty(made)


def is_pristine(layout: Layout) -> bool:
    """Whether the node's configuration is an unchanged default. Raises OSError."""
    return any(_same(layout.config, path) for path in (layout.pristine, f"{layout.pristine}.new"))


def switch(layout: Layout, name: str, *, keep_former: bool = False) -> None:
    """Make the version in home's directory `name` current. The caller has the lock.

    With `keep_former` the version before it is kept for `roll_back`. Raises InstallError where it refuses the node's
    changed configuration; OSError.
    """
    place, config = f"{layout.home}/{name}", layout.config
    layout.keep_bin()
    os.close(os.open(f"{place}/{IN_USE}", os.O_CREAT | os.O_WRONLY, 0o600))
    default, known = f"{place}/config.toml.default", f"{place}/config.toml.known"
    replace = not os.path.exists(config) or not os.path.getsize(config) or is_pristine(layout)
    if replace:
        _copy(default, f"{config}.new")
    else:
        kept.check(layout, place)
    shutil.copyfile(default, known)
    _sync(place)  # a power cut must not leave links to missing files

    former = layout.current()
    keep = keep_former and former not in ("", name)
    if keep:
        _symlink(former, f"{layout.home}/{PREVIOUS}.new")
    _link(name, f"{layout.home}/{CURRENT}")
    if keep:
        os.rename(f"{layout.home}/{PREVIOUS}.new", f"{layout.home}/{PREVIOUS}")
    for program in PROGRAMS:
        if not layout.is_linked(program):
            _link(layout.target(program), f"{layout.bin}/{program}")
    # If this is killed between the renames, the next run still recognises an unchanged configuration.
    os.rename(known, f"{layout.pristine}.new")
    if replace:
        os.rename(f"{config}.new", config)
    else:
        print(f"kept {config}: it was changed; the defaults of this version are in {layout.pristine}")
    os.rename(f"{layout.pristine}.new", layout.pristine)
    if former and former != name and not keep_former:
        print(f"{layout.home}/{former} stays until nothing runs from it")


def roll_back(layout: Layout) -> tuple[str, str]:
    """Make the previous version current again, and mark the other as rejected. Return the names of both.

    Completes a rollback that was killed. The caller has the lock. Raises InstallError if there is no complete previous
    version; OSError.
    """
    former, wanted = layout.current(), layout.previous()
    pending = f"{layout.home}/{ROLLING_BACK}"
    if under_way := link_of(pending):
        former, wanted = layout.rejected(), under_way
    if not wanted or not os.path.exists(f"{layout.home}/{wanted}/{IN_USE}"):
        raise InstallError(f"{layout.home}: found no version before {former or 'any'}: install the wanted version")
    _link(former, f"{layout.home}/{REJECTED}")
    _link(wanted, pending)
    switch(layout, wanted, keep_former=True)
    os.unlink(pending)
    return former, wanted


def accept(layout: Layout, name: str) -> None:
    """Forget that version `name` was rejected, and a rollback under way. The caller has the lock. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(f"{layout.home}/{ROLLING_BACK}")
    if layout.rejected() == name:
        os.unlink(f"{layout.home}/{REJECTED}")


def _same(one: str, other: str) -> bool:
    with suppress(FileNotFoundError):
        return filecmp.cmp(one, other, shallow=False)
    return False


def _copy(what: str, where: str) -> None:
    """Copy a file, to disk: `where` may be on another file system than home, and is empty after a power cut else."""
    shutil.copyfile(what, where)
    fd = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _link(what: str, where: str) -> None:
    _symlink(what, f"{where}.new")
    os.rename(f"{where}.new", where)


def _symlink(what: str, where: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(where)
    os.symlink(what, where)


def _sync(directory: str) -> None:
    """Flush the directory's file system to disk (syncfs(2)). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if libc.syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), directory)
    finally:
        os.close(fd)
