"""`pouchrich agent`: the node's agents in containers that run. No pod is restarted.

    status [NAME]     what runs, against the configuration
    restart NAME      end it and start it again, as after its program was replaced in a mounted directory
    upgrade NAME      have it as the configuration has it by now: command, env, user, restart, memory
    back-out NAME     have it as it was before the last upgrade

Each pod server reads the configuration that its container was made by. `mounts` and `mandatory` are the container's,
and need a new pod. A roll-out goes container by container, and on when the agent has run there for --settle seconds.
One that does not run is taken back in that container, and ends the roll-out with status 1: those before keep the change
until back-out, the others stay as they were. With --canary N it ends after N changed containers. Run again, an upgrade
goes on with those that still differ; so does one that was interrupted. A container that is frozen or ending, or whose
pod server began with an older version, is left as it is: it is listed, and the status is 1. One that has not started
yet is not listed.

`--json` prints

    {"version": 1, "verb", "agents": [{"namespace", "id", "container": as `pouchrich ps` names it, "agent", "unit":
        whether it is a unit of the container's systemd, "outcome": current | differs | restarted | upgraded |
        backed-out | refused | gone | failed | left, "differs": keys of the configuration, "reason": in words,
        "can_back_out"}]}
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pouchrich import containers, filters
from pouchrich.agents import Answer, ask, of
from pouchrich.containers import Container
from pouchrich.output import Span, Table, clean, show, show_json
from runtime import paths
from runtime.errors import NotFound

CHANGED = {"restart": "restarted", "upgrade": "upgraded", "back-out": "backed-out"}
LEFT = Answer("left", reason="the roll-out ended before this container")
SETTLE_S = 2.0
_STYLES = {"current": "good", "differs": "warn", "failed": "bad", "refused": "warn", "left": "dim", "gone": "dim"}


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed a number from 1 to 100000")
    return int(text)


def _settle(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 600:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed seconds from 0 to 600")
    return value


def add(agent: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    verbs = agent.add_subparsers(required=True, metavar="WHAT")
    for verb, about in (
        ("status", "compare running agents with the configuration"),
        ("restart", "end the agent and start it again"),
        ("upgrade", "run the agent as the configuration now has it"),
        ("back-out", "run the agent as it was before the last upgrade"),
    ):
        parser = verbs.add_parser(verb, help=about)
        parser.add_argument("name", metavar="NAME", nargs="?" if verb == "status" else None, help="name of the agent")
        filters.add(parser)
        parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
        if verb != "status":
            parser.add_argument("--canary", type=_count, metavar="N", help="end after N changed containers")
            parser.add_argument(
                "--settle",
                type=_settle,
                default=SETTLE_S,
                metavar="SECONDS",
                help=f"how long the agent has to run before the next container is changed; default {SETTLE_S:g}",
            )
        parser.set_defaults(run=run, verb=verb)


@dataclass(slots=True)
class Row:
    """One agent of one container, and the result of the request."""

    container: Container
    agent: str
    answer: Answer = LEFT


def run(arguments: argparse.Namespace, *, root: str = paths.BUNDLES) -> int:
    """Run the command, and print the results. Raises PouchrichError, OSError."""
    chosen = filters.chosen(arguments.filter, containers.every(root=root))
    rows = [Row(one, name) for one in chosen for name in of(one) if arguments.name in (None, name)]
    if not rows and arguments.name is not None:
        raise NotFound(
            f"NAME: found {arguments.name!r}, allowed an agent of a running container (pouchrich agent status)"
        )
    try:
        if arguments.verb == "status":
            asyncio.run(_look(rows))
        else:
            asyncio.run(_roll_out(rows, arguments.verb, arguments.settle, arguments.canary))
    except KeyboardInterrupt:
        # The pod server that was asked last completes its change.
        _show(rows, arguments)
        return 130
    _show(rows, arguments)
    wrong = {"failed", "refused"} if arguments.verb != "status" else {"failed"}
    return int(any(row.answer.outcome in wrong for row in rows))


async def _look(rows: Sequence[Row]) -> None:
    for row in rows:
        row.answer = await ask(row.container, row.agent, "look")


async def _roll_out(rows: Sequence[Row], verb: str, settle_s: float, canary: int | None) -> None:
    """Change row by row, until one fails or `canary` rows have been changed."""
    changed = 0
    for row in rows:
        row.answer = await ask(row.container, row.agent, verb, settle_s=settle_s)
        changed += row.answer.outcome == CHANGED[verb]
        if row.answer.outcome == "failed" or changed == canary:
            return


def _show(rows: Sequence[Row], arguments: argparse.Namespace) -> None:
    if arguments.json:
        show_json({"version": 1, "verb": arguments.verb, "agents": [_to_json(row) for row in rows]})
        return
    heads = ("NAMESPACE/POD/CONTAINER", "AGENT", "RUN BY", "OUTCOME", "BACK-OUT", "WHY")
    show([Table(heads, tuple(map(_cells, rows)))])
    if arguments.verb != "status":
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.answer.outcome] = counts.get(row.answer.outcome, 0) + 1
        sys.stderr.write(f"agent {clean(arguments.name)}: {', '.join(f'{n} {one}' for one, n in counts.items())}\n")


def _cells(row: Row) -> tuple[Span | str, ...]:
    answer = row.answer
    by = "systemd" if of(row.container)[row.agent] else "pod server"
    why = "; ".join(filter(None, (", ".join(answer.differs), answer.reason)))
    outcome = Span(answer.outcome, _STYLES.get(answer.outcome, "good"))
    return (row.container.label, row.agent, by, outcome, "yes" if answer.can_back_out else "", why)


def _to_json(row: Row) -> dict[str, Any]:
    answer = row.answer
    return {
        "namespace": row.container.namespace,
        "id": row.container.id,
        "container": row.container.label,
        "agent": row.agent,
        "unit": of(row.container)[row.agent],
        "outcome": answer.outcome,
        "differs": list(answer.differs),
        "reason": answer.reason,
        "can_back_out": answer.can_back_out,
    }
