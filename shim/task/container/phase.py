"""The life of a process of a task, as one table. Pure.

Init and exec processes share it; an exec is never paused by itself. A phase that ends in -ING is held while the OCI
runtime works, and falls back to where it came from when the runtime says no.
"""

import enum
from collections.abc import Mapping

from runtime.errors import FailedPrecondition


class Phase(enum.Enum):
    """Where a process is. The value is the word used in messages."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMING = "resuming"
    STOPPED = "stopped"
    DELETED = "deleted"


ALLOWED: Mapping[Phase, frozenset[Phase]] = {
    Phase.CREATED: frozenset({Phase.STARTING, Phase.STOPPED, Phase.DELETED}),
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.CREATED, Phase.STOPPED}),
    Phase.RUNNING: frozenset({Phase.PAUSING, Phase.STOPPED}),
    Phase.PAUSING: frozenset({Phase.PAUSED, Phase.RUNNING, Phase.STOPPED}),
    Phase.PAUSED: frozenset({Phase.RESUMING, Phase.STOPPED}),
    Phase.RESUMING: frozenset({Phase.RUNNING, Phase.PAUSED, Phase.STOPPED}),
    Phase.STOPPED: frozenset({Phase.DELETED}),
    Phase.DELETED: frozenset(),
}

FREEZING = frozenset({Phase.PAUSING, Phase.PAUSED, Phase.RESUMING})
"""Where processes may be frozen, which then cannot die."""

_VERBS = {
    Phase.STARTING: "start",
    Phase.PAUSING: "pause",
    Phase.RESUMING: "resume",
    Phase.DELETED: "delete",
}


def move(here: Phase, to: Phase) -> Phase:
    """Return `to`. Raises FailedPrecondition, in the words of containerd's runc shim, where the table has no way."""
    if to not in ALLOWED[here]:
        raise refused(_VERBS.get(to, to.value), here)
    return to


def refused(verb: str, here: Phase) -> FailedPrecondition:
    """The error for a request that a process in phase `here` cannot serve."""
    return FailedPrecondition(f"cannot {verb} a {here.value} process")
