"""How likely the kernel is to kill a process for lack of memory (proc_pid_oom_score_adj(5))."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

RANGE = range(-1000, 1001)


def from_spec(spec: Mapping[str, Any]) -> int | None:
    """`process.oomScoreAdj` of an OCI runtime specification, None where it has none that the kernel accepts."""
    process = spec.get("process")
    score = process.get("oomScoreAdj") if isinstance(process, dict) else None
    return score if type(score) is int and score in RANGE else None


@contextmanager
def for_forks(score: int | None) -> Iterator[None]:
    """Give the processes forked inside the `with` the score `score`; nothing for None. Raises nothing.

    Setting it in the child would be too late: on a busy machine the child has children before its parent runs again.
    This process can always return to its own score, as the minimum allowed without privilege does not change
    (oom_score_adj_min, fs/proc/base.c). A lower score for which this process lacks the privilege is skipped.
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
    """Set this process's score and return the previous one. Raises OSError."""
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        before = os.read(fd, 8)
        os.pwrite(fd, score, 0)
        return before
    finally:
        os.close(fd)
