"""How likely the kernel is to kill a process for want of memory (proc_pid_oom_score_adj(5))."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

RANGE = range(-1000, 1001)


def of(spec: Mapping[str, Any]) -> int | None:
    """`process.oomScoreAdj` of an OCI runtime specification, None where it has none that the kernel would take."""
    process = spec.get("process")
    score = process.get("oomScoreAdj") if isinstance(process, dict) else None
    return score if type(score) is int and score in RANGE else None


@contextmanager
def of_forks(score: int | None) -> Iterator[None]:
    """What this process forks meanwhile begins with `score`, where that is not None; raises nothing.

    A child's own would be too late: on a busy machine it has children by the time that its parent goes on. This process
    can always go back, as the least that it may have without a privilege stays (oom_score_adj_min, fs/proc/base.c). A
    score that is lower and needs one which it lacks is passed over.
    """
    if score is None:
        yield
        return
    own = b""
    with suppress(OSError):
        own = _exchange(b"%d" % score)
    try:
        yield
    finally:
        if own:
            with suppress(OSError):
                _exchange(own)


def _exchange(score: bytes) -> bytes:
    """Write this process', and return what it was. Raises OSError."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        before = os.read(fd, 8)
        os.pwrite(fd, score, 0)
        return before
    finally:
        os.close(fd)
