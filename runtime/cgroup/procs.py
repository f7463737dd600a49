"""The processes in a cgroup."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.cgroup.files import lines, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.cgroup.model import Cgroup


def _tree(directory: str) -> Iterator[str]:
    yield directory
    try:
        with os.scandir(directory) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return  # removed meanwhile
    for child in children:
        yield from _tree(child)


def procs(cgroup: Cgroup) -> list[int]:
    """The PIDs in the cgroup and in all cgroups below it, ascending; none if the cgroup is gone.

    A threaded cgroup cannot list processes (EOPNOTSUPP); its domain does. Processes outside of our PID namespace read
    as 0 and are left out.
    """
    found = {
        int(pid)
        for directory in _tree(cgroup.main)
        for (pid, *_) in lines(read(directory, "cgroup.procs"))
        if pid.isdigit()
    }
    return sorted(found - {0})
