"""The state that a record's lines add up to (`runtime.hooks.journal`): what is owed, and how far each hook is. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OWED, STARTED, DONE, SKIPPED = "owed", "started", "done", "skipped"
UNSTARTED = "unstarted"

MOVES: Mapping[str, tuple[str, str]] = {
    STARTED: (OWED, STARTED),
    UNSTARTED: (STARTED, OWED),
    DONE: (STARTED, DONE),
    SKIPPED: (OWED, SKIPPED),
}
"""What can happen to a hook: event -> (the state it must be in, the state it is in afterwards).

A hook begins as OWED. A hook that is STARTED in a record that nobody has locked was interrupted, and stays STARTED.
"""


@dataclass(slots=True)
class JournalState:
    """The state that a record's lines add up to. `hooks[n]` is (state, result) of hook n."""

    head: dict[str, Any] = field(default_factory=dict)
    owed: bool = False
    handed: bool = False
    ended: tuple[int, str] | None = None
    hooks: dict[int, tuple[str, str]] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Add one line. Raises KeyError, TypeError or ValueError for a line that is not ours."""
        event = line.get("event")
        if event is None:
            self.head = dict(line["head"])
            self.hooks = {number: (OWED, "") for number in range(len(self.head["hooks"]))}
        elif event == "owed":
            self.owed = True
        elif event == "handed":
            self.handed = True
        elif event == "ended":
            self.ended = (int(line["exit_code"]), str(line["reason"]))
        elif event in MOVES:
            self.hooks[int(line["hook"])] = (MOVES[event][1], str(line.get("result", "")))

    def check(self, event: str, hook: int) -> None:
        """Raise ValueError where `event`, one of MOVES, may not happen to hook `hook` now."""
        before, _ = MOVES[event]
        if (state := self.hooks[hook][0]) != before:
            raise ValueError(f"poststop hook {hook} is {state}, not {before}")

    @property
    def open_hooks(self) -> tuple[int, ...]:
        """The hooks that have never been started, in order."""
        return tuple(number for number, (state, _) in self.hooks.items() if state == OWED)

    @property
    def interrupted(self) -> tuple[int, ...]:
        """The hooks that were started and whose end was not recorded."""
        return tuple(number for number, (state, _) in self.hooks.items() if state == STARTED)


def parse_journal(data: bytes) -> tuple[JournalState, int]:
    """The state that a record's bytes add up to, and the number of bytes that are whole lines of ours."""
    state, good = JournalState(), 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            state.take(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            break
        good += len(line)
    return state, good
