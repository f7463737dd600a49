"""How a hook ended, in the words of records, errors and the log."""

import logging
import time
from dataclasses import dataclass, field

from runtime.config.model import POD, Hook
from runtime.hooks.tail import LINE_END, Tail

_log = logging.getLogger(__name__)
TIMED_OUT = "timed out"
_LEAST = 16
"""Characters: less is no proof that two texts are one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a hook ended: `result` in words (`exit status 3`, `timed out after 30s`), `output` its last words.

    `started` False: for certain nothing of the hook was, for want of what is to start it; the rest says why.
    """

    ok: bool
    result: str
    output: Tail = field(default_factory=Tail)
    started: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a hook, for people; `output` is what it said last."""

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
    """A hook that ran, for its metrics; its name may be a pod's and is not among them."""
    ended = "ok" if outcome.ok else "timeout" if outcome.result.startswith(TIMED_OUT) else "failed"
    return {"stage": stage, "where": hook.where, "owner": hook.owner, "outcome": ended}


def named(hook: Hook) -> str:
    """A hook in the log, where a pod's may not pass for one of the node's."""
    return f"hook {hook.name} of the pod" if hook.owner == POD else f"hook {hook.name}"


def said_beside(outcome: Outcome) -> str:
    """What a hook said that the result does not say yet: an OCI runtime tells why it cannot start one in both."""
    lines = outcome.output.text().split(LINE_END)
    return LINE_END.join(line for line in lines if not _says(outcome.result, line))


def _says(result: str, line: str) -> bool:
    """Whether `line` is the end of `result` but for what stands before it, a time or a level."""
    both = zip(reversed(result.strip()), reversed(line.strip()), strict=False)
    shared = next((at for at, (one, other) in enumerate(both) if one != other), min(len(result), len(line)))
    return shared >= max(_LEAST, len(line.strip()) // 2)


def failure(stage: str, hook: Hook, outcome: Outcome) -> str:
    """The error of a hook that failed. What a host hook said is the operator's business and stays in the log."""
    said = said_beside(outcome) if hook.where == "container" else ""
    return f"{stage} hook {hook.name}: {outcome.result}" + (f": {said}" if said else "")


def report(what: str, outcome: Outcome) -> None:
    """Log how a hook ended."""
    said = said_beside(outcome)
    _log.log(logging.INFO if outcome.ok else logging.WARNING, "%s: %s%s", what, outcome.result, said and f": {said}")
