"""How a hook ended, in the words of records, errors and the log."""

import logging
import time
from dataclasses import dataclass, field

from runtime.config.model import POD, Hook
from runtime.hooks.tail import Tail

_log = logging.getLogger(__name__)


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
    """What became of a hook, for people."""

    stage: str
    name: str
    where: str
    owner: str
    result: str
    seconds: float


def result_of(stage: str, hook: Hook, outcome: Outcome, began: float) -> Result:
    """The result of a hook that was started at `began`, a time.monotonic()."""
    return Result(stage, hook.name, hook.where, hook.owner, outcome.result, round(time.monotonic() - began, 3))


def named(hook: Hook) -> str:
    """A hook in the log, where a pod's may not pass for one of the node's."""
    return f"hook {hook.name} of the pod" if hook.owner == POD else f"hook {hook.name}"


def failure(stage: str, hook: Hook, outcome: Outcome) -> str:
    """The error of a hook that failed. What a host hook said is the operator's business and stays in the log."""
    said = outcome.output.text() if hook.where == "container" else ""
    return f"{stage} hook {hook.name}: {outcome.result}" + (f": {said}" if said else "")


def report(what: str, outcome: Outcome) -> None:
    """Log how a hook ended."""
    said = outcome.output.text()
    _log.log(logging.INFO if outcome.ok else logging.WARNING, "%s: %s%s", what, outcome.result, said and f": {said}")
