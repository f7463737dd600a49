"""All pairs of phases: the allowed moves move, the others raise."""

import itertools

import pytest

from runtime.errors import FailedPrecondition
from shim.task.container import phase
from shim.task.container.phase import Phase

ALLOWED = {
    ("created", "starting"),
    ("created", "stopped"),
    ("created", "deleted"),
    ("starting", "running"),
    ("starting", "created"),
    ("starting", "stopped"),
    ("running", "pausing"),
    ("running", "stopped"),
    ("pausing", "paused"),
    ("pausing", "running"),
    ("pausing", "stopped"),
    ("paused", "resuming"),
    ("paused", "stopped"),
    ("resuming", "running"),
    ("resuming", "paused"),
    ("resuming", "stopped"),
    ("stopped", "deleted"),
}


@pytest.mark.parametrize(("here", "to"), list(itertools.product(Phase, Phase)), ids=lambda one: one.value)
def test_a_move_is_allowed_or_refused(here: Phase, to: Phase):
    if (here.value, to.value) in ALLOWED:
        assert phase.move(here, to) is to
    else:
        with pytest.raises(FailedPrecondition, match=rf"^cannot \w+ a {here.value} process$"):
            phase.move(here, to)


@pytest.mark.parametrize(
    ("here", "to", "text"),
    [
        (Phase.RUNNING, Phase.STARTING, "cannot start a running process"),
        (Phase.STOPPED, Phase.STARTING, "cannot start a stopped process"),
        (Phase.RUNNING, Phase.DELETED, "cannot delete a running process"),
        (Phase.DELETED, Phase.DELETED, "cannot delete a deleted process"),
    ],
)
def test_the_words_are_those_of_containerds_shim(here: Phase, to: Phase, text: str):
    with pytest.raises(FailedPrecondition, match=f"^{text}$"):
        phase.move(here, to)
