"""How a hook ended, in the words of records, errors and the log."""

import logging
import time
from dataclasses import dataclass, field

from runtime.config.model import Hook, hook_label
from runtime.hooks.tail import LINE_END, Tail

_log = logging.getLogger(__name__)
_LEAST = 16
"""How many characters a line and the result must share, at least, to count as the same message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a hook ended: `result` in words (`exit status 3`, `timed out after 30s`), `output` the end of its output.

    `started` False: the hook certainly did not run, because it could not be started; `result` says why. `timed_out`: it
    took too long.
    """

    ok: bool
    result: str
    output: Tail = field(default_factory=Tail)
    started: bool = True
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a hook, for people; `output` is the end of its output."""

    stage: str
    name: str
    where: str
    owner: str
    result: str
    seconds: float
    output: str = ""


def result_of(stage: str, hook: Hook, outcome: Outcome, began: float) -> Result:
    """The result of a hook that was started at `began`, a time.monotonic()."""
    seconds = round(time.monotonic() - began, 3)
    return Result(stage, hook.name, hook.where, hook.owner, outcome.result, seconds, said_beside(outcome))


def labels(stage: str, hook: Hook, outcome: Outcome) -> dict[str, str]:
    """The metrics labels of a hook that ran. Its name is not among them, because a pod may have chosen it."""
    ended = "ok" if outcome.ok else "timeout" if outcome.timed_out else "failed"
    return {"stage": stage, "where": hook.where, "owner": hook.owner, "outcome": ended}


def named(hook: Hook) -> str:
    """The hook's name in the log."""
    return f"hook {hook_label(hook.name, hook.owner)}"


def said_beside(outcome: Outcome) -> str:
    """The hook's output without lines that repeat the result: an OCI runtime reports a failed start in both."""
    lines = outcome.output.text().split(LINE_END)
    return LINE_END.join(line for line in lines if not _says(outcome.result, line))


def _says(result: str, line: str) -> bool:
    """Whether `line` repeats the end of `result`, apart from a prefix such as a time or a log level."""
    both = zip(reversed(result.strip()), reversed(line.strip()), strict=False)
    shared = next((at for at, (one, other) in enumerate(both) if one != other), min(len(result), len(line)))
    return shared >= max(_LEAST, len(line.strip()) // 2)


def failure(stage: str, hook: Hook, outcome: Outcome) -> str:
    """The error text for a failed hook. The output of a host hook is for the operator only and stays in the log."""
    said = said_beside(outcome) if hook.where == "container" else ""
    return f"{stage} hook {hook.name}: {outcome.result}" + (f": {said}" if said else "")


def report(what: str, outcome: Outcome) -> None:
    """Log how a hook ended."""
    said = said_beside(outcome)
    _log.log(logging.INFO if outcome.ok else logging.WARNING, "%s: %s%s", what, outcome.result, said and f": {said}")
