"""Installed versions that have been replaced, which go once nothing runs from them.

hack/install.sh puts each version into a directory of its own below HOME (PREFIX/lib/pouchrich), and new processes run
the one that the link CURRENT names. From another one there still runs

- who has its file IN_USE locked (`shim.installed.version`): spawners, pod servers, and what those leave behind;
- who was executed from there, by program or command line: commands, supervisors of hooks, runners;
- and, where there is no such file, whoever has something of it mapped. That is a version of before there were such
  directories, or one whose installation was interrupted. Only the installer removes those: it knows when it is through.

A process for which there is another directory at that path, as a container's may be, runs nothing of it.

`start` looks for them once a minute. Who removes anything has HOME/LOCK locked, as the installer has, whose use of this
is from its checkout and with any Python: it needs nothing but the standard library.

The version that the link PREVIOUS names stays too: a release's `pouchrich node rollback` goes back to it.
"""

import fcntl
import os
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
SETTLED_S = 10.0
"""Who is just being executed is seen by nothing above: for so long after a change of CURRENT the former one stays."""


def check() -> None:
    """Leave a process behind that removes what nothing runs, where there is more than the current version.

    Never raises, never waits.
    """
    home = os.path.dirname(VERSION_DIRECTORY)
    try:
        if home and any(replaced(home)):
            detach(lambda: _remove_alone(home), keep=())
    except OSError as err:
        sys.stderr.write(f"replaced versions: {err}\n")


def replaced(home: str, *, unfinished: bool = False) -> Iterator[str]:
    """The directories in `home` that are not the current version's, without what changed just now. Raises OSError.

    `unfinished` is for those without the file IN_USE too, and where no version is the current one.
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
        elif unfinished and (name != FORMER_LAYOUT or (settled and current)):
            yield path


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def remove_unused(home: str, *, unfinished: bool = False) -> list[str]:
    """Remove those of `replaced` that nothing runs from; their paths. The caller has LOCK. Raises OSError."""
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
    """Have the lock on the file at `path`: True, False where there is no such file, None where another has it."""
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
    """Whether a process has a program below `path`, or a word of its command line or, if `mapped`, a mapped file."""
    wanted = os.fsencode(path) + b"/"
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if not is_seen(pid, path):
            continue
        with suppress(OSError):  # it has ended, is a kernel thread, or is another user's
            if os.readlink(f"/proc/{pid}/exe").startswith(f"{path}/"):
                return True
        with suppress(OSError):
            if wanted in command_line.read(pid):
                return True
        if mapped:
            with suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
                if wanted in file.read():
                    return True
    return False
