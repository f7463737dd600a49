"""Removes installed versions that have been replaced, once nothing runs from them.

hack/install.sh puts each version into a directory of its own below HOME (PREFIX/lib/pouchrich), and new processes run
the version that the link CURRENT names. An older version still runs if there is

- a process that has its file IN_USE locked (`shim.installed.version`): spawners, pod servers, and the processes that
  these leave behind;
- a process whose program or command line names its directory: commands, supervisors of hooks, runners;
- where the file IN_USE does not exist, a process that has a file of the version mapped. Such a version is of a time
  before these directories existed, or its installation was interrupted. Only the installer removes such versions,
  because it knows when it has finished.

A process that sees another directory at that path, such as a container's, does not run the version.

`start` looks for replaced versions once a minute. Whoever removes one holds the lock HOME/LOCK, as the installer does.
The installer imports this module from its checkout with any Python, so the module needs only the standard library.

The version that the link PREVIOUS names stays too: a release's `pouchrich node rollback` goes back to it.
"""

import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runtime.linux import command_line
from runtime.linux.seen import is_seen
from shim.installed.detached import detach
from shim.installed.location import VERSION_DIRECTORY
from shim.installed.version import IN_USE

CURRENT, PREVIOUS, LOCK = "current", "previous", ".lock"
FORMER_LAYOUT = "venv"
_VERSION = re.compile(r"\d+(\.\d+)*([a-z]+\d*)?(-\d{8}T\d{6})?")
"""The names of versions' directories. Others may be the administrator's, or a file system's lost+found."""

SETTLED_S = 10.0
"""No version is removed for this long after a change of CURRENT: a process that is just being executed is not seen."""


def start_version_removal() -> None:
    """Leave a process behind that removes unused versions, if there are others than the current one.

    Never raises, never waits.
    """
    home = os.path.dirname(VERSION_DIRECTORY)
    try:
        if home and any(replaced(home)):
            detach(lambda: _remove_alone(home), keep=())
    except OSError as err:
        sys.stderr.write(f"replaced versions: {err}\n")


def is_current(directory: str = VERSION_DIRECTORY) -> bool:
    """Whether new processes run the version in `directory`; True in a checkout, and where nothing says."""
    current = _link(f"{os.path.dirname(directory)}/{CURRENT}") if directory else ""
    return not current or current == os.path.basename(directory)


def replaced(home: str, *, unfinished: bool = False) -> Iterator[str]:
    """The directories in `home` of replaced versions; none just after CURRENT has changed. Raises OSError.

    `unfinished` includes directories without the file IN_USE, and works without a current version.
    """
    current, settled = "", True
    kept = [_link(f"{home}/{name}") for name in (PREVIOUS, f"{PREVIOUS}.new")]
    try:
        current = os.readlink(f"{home}/{CURRENT}")
        settled = not 0 <= time.time() - os.lstat(f"{home}/{CURRENT}").st_mtime < SETTLED_S
    except FileNotFoundError:
        if not unfinished:
            return
    for name in sorted(os.listdir(home)):
        path = f"{home}/{name}"
        if name in (current, *kept) or os.path.islink(path) or not os.path.isdir(path):
            continue
        if os.path.exists(f"{path}/{IN_USE}"):
            if settled:
                yield path
        elif unfinished and (_VERSION.fullmatch(name) or (name == FORMER_LAYOUT and settled and current)):
            yield path


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def remove_unused(home: str, *, unfinished: bool = False) -> list[str]:
    """Remove the versions of `replaced` that nothing runs; return their paths. The caller has LOCK. Raises OSError."""
    removed = []
    for path in replaced(home, unfinished=unfinished):
        with _alone(f"{path}/{IN_USE}") as alone:
            if alone is not None and not _is_run(path, mapped=not alone):
                shutil.rmtree(path)
                removed.append(path)
    return removed


def _remove_alone(home: str) -> None:
    with _alone(f"{home}/{LOCK}") as alone:
        if alone:
            remove_unused(home)


@contextmanager
def _alone(path: str) -> Iterator[bool | None]:
    """Hold the lock on the file `path`. Yields True; False if there is no file, None if another process has it."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield os.fstat(fd).st_nlink > 0 or None
    finally:
        os.close(fd)


def _is_run(path: str, *, mapped: bool) -> bool:
    """Whether a process's program, command line or, if `mapped`, a mapped file is below `path`."""
    real = os.path.realpath(path)  # as the kernel names programs and mapped files
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if not is_seen(pid, path):
            continue
        with suppress(OSError):  # the process has ended, is a kernel thread, or is another user's
            if os.readlink(f"/proc/{pid}/exe").startswith(f"{real}/"):
                return True
        with suppress(OSError):
            words = command_line.read(pid)
            if os.fsencode(f"{path}/") in words or os.fsencode(f"{real}/") in words:
                return True
        if mapped:
            with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
                if os.fsencode(f"{real}/") in file.read():
                    return True
    return False
