"""Whether an image's content of a directory can be copied into a tmpfs that is mounted there.

The OCI runtimes copy it (tmpcopyup), and a Create fails where they cannot: runc 1.3 handles only files, directories and
symbolic links. More than a daemon's few files should not be kept in memory.
"""

import os
import stat
from collections.abc import Iterable

MOST_NAMES = 1024
_PAGE = 4096
_MOUNTED = (
    *("/run/systemd/system", "/run/systemd/system.conf.d", "/run/systemd/logind.conf.d", "/run/tmpfiles.d"),
    "/run/lock",
)
"""Where the shim's files, or a file system, are mounted. A symbolic link there would redirect such a mount to where the
image says, for example into a volume of the pod."""
_COPIED = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def _meet(link: str, mounted: str) -> bool:
    """Whether a mount at `mounted`, or below it, would go through `link`; /run/lock is empty by then."""
    above = f"{mounted}/".startswith(f"{link}/")
    return above or (mounted != "/run/lock" and link.startswith(f"{mounted}/"))


def tmpcopyup_problem(entries: Iterable[tuple[str, os.stat_result]], most_bytes: int) -> str:
    """Why `entries`, pairs of a path and its stat result, cannot be copied, or ""; the first reason found."""
    size = 0
    for number, (path, about) in enumerate(entries):
        if number == MOST_NAMES:
            return f"found more than {MOST_NAMES} names"
        if stat.S_IFMT(about.st_mode) not in _COPIED:
            return f"found {path!a}, which is no file, directory or symbolic link"
        if stat.S_ISLNK(about.st_mode) and any(_meet(path, one) for one in _MOUNTED):
            return f"found a symbolic link at {path}, where files of the shim's are mounted"
        size += -(-about.st_size // _PAGE) * _PAGE if stat.S_ISREG(about.st_mode) else 0
        if size > most_bytes:
            return f"found more than {most_bytes >> 20} MiB"
    return ""
