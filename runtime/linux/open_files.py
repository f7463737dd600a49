"""The limit on this process's open descriptors (getrlimit(2), RLIMIT_NOFILE), and that of what it executes.

A systemd service has a soft limit of 1024, for programs that use select(2), and a hard limit of 524288; so has
containerd, whose unit has named none since 2.0. The shim uses poll and epoll, and takes the hard limit, as a Go program
does. Programs that it executes get the limits that it was started with: a container whose specification names none has
those.
"""

from __future__ import annotations

import resource
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_inherited: list[tuple[int, int]] = []


def take_hard_limit() -> None:
    """Raise the soft limit of this process to the hard one. May be repeated. Raises nothing."""
    if not _inherited:
        found = resource.getrlimit(resource.RLIMIT_NOFILE)
        if _set(found[1], found[1]):
            _inherited.append(found)


def inherited() -> tuple[int, int]:
    """The soft and hard limits from before `take_hard_limit`, which are passed on."""
    return _inherited[0] if _inherited else resource.getrlimit(resource.RLIMIT_NOFILE)


@contextmanager
def of_spawned(highest: int) -> Iterator[None]:
    """Programs executed inside the `with` get the inherited limits. Other threads may then be refused a file.

    `highest` is the highest descriptor of ours that they are given. The C library refuses one above the soft limit
    (posix_spawn_file_actions_adddup2(3)), so the soft limit is then just above it. Raises nothing itself: if fs.nr_open
    has been lowered below the limits since, they stay what they are.
    """
    if not _inherited:
        yield
        return
    soft, hard = _inherited[0]
    _set(max(soft, highest + 1), hard)
    try:
        yield
    finally:
        _set(hard, hard)


def _set(soft: int, hard: int) -> bool:
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return True
    return False
