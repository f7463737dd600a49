"""runtime.hooks.journal_state: what may happen to a hook, as a table."""

import json

import pytest

from runtime.hooks.journal_state import DONE, MOVES, OWED, SKIPPED, STARTED, UNSTARTED, parse_journal

HEAD = {"head": {"hooks": [{"name": "a"}]}}
TO = {OWED: (), STARTED: (STARTED,), DONE: (STARTED, DONE), SKIPPED: (SKIPPED,)}
"""What has happened to a hook in each state."""

ALLOWED = {(OWED, STARTED), (OWED, SKIPPED), (STARTED, DONE), (STARTED, UNSTARTED)}


def state_of(events):
    lines = [HEAD, *({"event": event, "hook": 0, "result": event} for event in events)]
    return parse_journal(b"".join(json.dumps(line).encode() + b"\n" for line in lines))[0]


@pytest.mark.parametrize("event", MOVES)
@pytest.mark.parametrize("state", TO)
def test_an_event_happens_to_a_hook_in_one_state_only(state, event):
    found = state_of(TO[state])
    if (state, event) in ALLOWED:
        found.check(event, 0)
    else:
        with pytest.raises(ValueError, match=f"poststop hook 0 is {state}, not {MOVES[event][0]}"):
            found.check(event, 0)
    assert found.hooks[0][0] == state


def test_what_has_happened_is_read_from_the_lines():
    assert [state_of(events).hooks[0] for events in TO.values()] == [
        (OWED, ""),
        (STARTED, STARTED),
        (DONE, DONE),
        (SKIPPED, SKIPPED),
    ]
    assert state_of((STARTED, UNSTARTED)).open_hooks == (0,)
