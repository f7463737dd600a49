"""The outcome of a run as a table."""

from collections import Counter
from collections.abc import Mapping

from hack.chaos.rounds import Outcome

ROWS = (
    "lost exit",
    "wrong exit",
    "lost output",
    "wrong exec",
    "call without an answer",
    "poststop runs",
    "pod that cannot be removed",
    "left: process",
    "left: mount",
    "left: cgroup",
    "left: socket",
    "left: bundle",
    "left: runtime",
    "left: run",
    "left: record",
)


def table(outcomes: Mapping[str, Outcome]) -> str:
    """One column per run: what was done, what is wrong, and what is counted apart."""
    names = list(outcomes)
    counted = {name: Counter(one.what for one in outcome.wrong) for name, outcome in outcomes.items()}
    apart = sorted({key for outcome in outcomes.values() for key in outcome.apart})
    rows = [
        ("faults", [outcomes[name].faults.total() for name in names]),
        ("containers", [outcomes[name].containers.total() for name in names]),
        ("pods", [outcomes[name].pods for name in names]),
        ("calls that failed", [outcomes[name].failed_calls for name in names]),
        *((row, [counted[name][row] for name in names]) for row in ROWS),
        *((f"apart: {key}", [outcomes[name].apart[key] for name in names]) for key in apart),
    ]
    width = max(len(row) for row, _ in rows)
    lines = [f"| {'':{width}} | " + " | ".join(names) + " |", f"|{'-' * (width + 2)}|" + "---|" * len(names)]
    lines += [f"| {row:{width}} | " + " | ".join(map(str, cells)) + " |" for row, cells in rows]
    return "\n".join(lines)


def findings(outcome: Outcome) -> str:
    """One line per error."""
    return "\n".join(f"round {one.round}: {one.what}: {one.whose} {one.detail}" for one in outcome.wrong)
