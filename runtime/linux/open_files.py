"""How many descriptors this process may have open (getrlimit(2), RLIMIT_NOFILE), and what it executes may.

A service of systemd's has a soft limit of 1024, for the sake of programs that use select(2), and a hard one of 524288;
so has containerd since its unit names none (2.0). We use poll and epoll, and take the hard one, as a Go program does.
What is executed by us begins with the limits that we began with: a container whose specification names none has those.
"""

from __future__ import annotations

import resource
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_inherited: list[tuple[int, int]] = []


def take_hard_limit() -> None:
    """Make the soft limit of this process the hard one. May be repeated. Raises nothing."""
    if not _inherited:
        found = resource.getrlimit(resource.RLIMIT_NOFILE)
        if _set(found[1], found[1]):
            _inherited.append(found)


def inherited() -> tuple[int, int]:
    """The soft and hard limit of before `take_hard_limit`, which are passed on."""
    return _inherited[0] if _inherited else resource.getrlimit(resource.RLIMIT_NOFILE)


@contextmanager
def of_spawned() -> Iterator[None]:
    """What is executed meanwhile begins with what was inherited. Threads that open a file then may be refused one.

    Raises nothing of its own: below an fs.nr_open that was lowered since, the limits stay what they are.
    """
    if not _inherited:
        yield
        return
    soft, hard = _inherited[0]
    _set(soft, hard)
    try:
        yield
    finally:
        _set(hard, hard)


def _set(soft: int, hard: int) -> bool:
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return True
    return False
