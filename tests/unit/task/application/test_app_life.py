"""The table of an application's life under an init: every move that it allows, and every one that it does not."""

import asyncio
from itertools import pairwise

import pytest

from runtime.errors import RuntimeFailed
from shim.task.application.app_life import ALLOWED, AppLife, AppPhase

CREATED, BOOTING, CALLED_OFF, FAILED = AppPhase.CREATED, AppPhase.BOOTING, AppPhase.CALLED_OFF, AppPhase.FAILED
RUNNING, STOPPING, RESTARTING = AppPhase.RUNNING, AppPhase.STOPPING, AppPhase.RESTARTING
SHUTTING_DOWN, ENDED = AppPhase.SHUTTING_DOWN, AppPhase.ENDED

LIVES = {
    "runs and ends": (CREATED, BOOTING, RUNNING, SHUTTING_DOWN, ENDED),
    "is stopped": (CREATED, BOOTING, RUNNING, STOPPING, SHUTTING_DOWN, ENDED),
    "is signalled, and goes on": (CREATED, BOOTING, RUNNING, STOPPING, RUNNING, SHUTTING_DOWN, ENDED),
    "is killed": (CREATED, BOOTING, RUNNING, ENDED),
    "is restarted, and stopped as it fails again": (
        *(CREATED, BOOTING, RUNNING, RESTARTING, RUNNING, RESTARTING, STOPPING),
        *(SHUTTING_DOWN, ENDED),
    ),
    "is given up": (CREATED, BOOTING, RUNNING, RESTARTING, SHUTTING_DOWN, ENDED),
    "is killed as it is restarted": (CREATED, BOOTING, RUNNING, RESTARTING, ENDED),
    "is killed as it stops": (CREATED, BOOTING, RUNNING, STOPPING, ENDED),
    "does not boot": (CREATED, BOOTING, FAILED, ENDED),
    "ends as it boots": (CREATED, BOOTING, ENDED),
    "is called off as it boots": (CREATED, BOOTING, CALLED_OFF, ENDED),
    "is called off as it waits": (CREATED, CALLED_OFF, ENDED),
    "is never started": (CREATED, ENDED),
}


def life_of(*phases):
    life = AppLife()
    for phase in phases[1:]:
        life.move(phase)
    return life


@pytest.mark.parametrize("phases", LIVES.values(), ids=LIVES)
def test_a_life_goes_its_way(phases):
    life = life_of(*phases)
    assert (life.phase, life.ended.is_set()) == (ENDED, True)
    assert life.has_run == (RUNNING in phases)
    assert life.is_called_off == (CALLED_OFF in phases)


def test_no_move_is_allowed_that_no_life_makes():
    made = {move for phases in LIVES.values() for move in pairwise(phases)}
    assert {(here, to) for here in ALLOWED for to in ALLOWED[here]} == made
    assert set(ALLOWED) == set(AppPhase)


@pytest.mark.parametrize("here", AppPhase)
def test_a_move_that_the_table_has_not_changes_nothing(here):
    phases = next(phases[: phases.index(here) + 1] for phases in LIVES.values() if here in phases)
    for to in set(AppPhase) - ALLOWED[here]:
        life = life_of(*phases)
        with pytest.raises(RuntimeFailed, match=f"the application is {here.value}, and cannot be {to.value}"):
            life.move(to)
        assert (life.phase, life.ended.is_set()) == (here, here is ENDED)


@pytest.mark.parametrize("phases", LIVES.values(), ids=LIVES)
def test_init_may_end_in_any_phase_and_again(phases):
    for count in range(1, len(phases) + 1):
        life = life_of(*phases[:count])
        has_run, is_called_off = life.has_run, life.is_called_off
        for _ in range(2):
            life.end()
            assert (life.phase, life.has_run, life.is_called_off) == (ENDED, has_run, is_called_off)


def test_who_waits_for_the_end_is_told():
    async def wait():
        life = life_of(CREATED, BOOTING)
        waiting = asyncio.ensure_future(life.ended.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        life.end()
        assert await asyncio.wait_for(waiting, 10)

    asyncio.run(wait())
