"""The phases of a task's process, and the table of allowed transitions. Pure.

Init and exec processes share the table; an exec is never paused by itself. STARTING, PAUSING and RESUMING last while
the OCI runtime works, and fall back to the phase before them when the OCI runtime fails.
"""

import enum
from collections.abc import Mapping

from runtime.errors import FailedPrecondition


class Phase(enum.Enum):
    """The phase of a process. The value is the word used in messages."""

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
"""The phases in which processes may be frozen, and then cannot die."""

_VERBS = {
    Phase.STARTING: "start",
    Phase.PAUSING: "pause",
    Phase.RESUMING: "resume",
    Phase.DELETED: "delete",
}


def move(here: Phase, to: Phase) -> Phase:
    """Return `to`. Raises FailedPrecondition, in the words of containerd's runc shim, if the table forbids the move."""
    if to not in ALLOWED[here]:
        raise refused(_VERBS.get(to, to.value), here)
    return to


def refused(verb: str, here: Phase) -> FailedPrecondition:
    """The error for a request that a process in phase `here` cannot serve."""
    return FailedPrecondition(f"cannot {verb} a {here.value} process")
