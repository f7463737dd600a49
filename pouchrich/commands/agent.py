"""`pouchrich agent`: show or change the node's agents in running containers, without restarting a pod.

    status [NAME]     compare the running agents, or only agent NAME, with the configuration
    restart NAME      end the agent and start it again, for example after a mounted program was replaced
    upgrade NAME      run the agent as the configuration now has it: command, env, user, restart, memory
    back-out NAME     run the agent as it was before its last upgrade

Each container's pod server reads the configuration file that the container was created with. A changed `mounts` or
`mandatory` takes effect only in new pods. A container whose Start has not completed is not listed.

restart, upgrade and back-out change one container at a time. The next container follows once the agent has run for
--settle seconds. If the agent does not run, its pod server undoes the upgrade or back-out in that container, and the
roll-out ends: containers that were changed before keep the change until back-out, and the rest are reported as `left`.
A pod can make its own agent fail. --max-failed N continues past the first N failures, and --filter 'pod!=NAME' leaves a
pod out. --canary N ends the roll-out after N changed containers. Run again, an upgrade continues with the containers
that still differ, also after an interruption. A container that is frozen or ending, or whose pod server runs a version
without this feature, is not changed: it is reported as `refused`, and the roll-out continues with the next one.

The exit status is 1 if an agent is `failed` or, except for status, `refused`, or if no running container has agent
NAME; and 130 if you interrupt the command.

`--json` prints

    {"version": 1, "verb": status | restart | upgrade | back-out, "agents": [{
        "namespace", "id": containerd's, "container": as in `pouchrich ps`, "agent": its name,
        "unit": true if the agent is a unit of the container's systemd, false if the pod server runs it,
        "outcome": current | differs | restarted | upgraded | backed-out | refused | gone | failed | left,
        "differs": [keys in which the running agent differs from the configuration],
        "reason": why this outcome, or why the container cannot have the configured agent; "" for none,
        "can_back_out": true if there is an upgrade to back out, else false}]}
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pouchrich import containers, filters
from pouchrich.agents import Answer, ask, of
from pouchrich.containers import Container
from pouchrich.output import Span, Table, clean, show, show_json
from pouchrich.survey import Survey
from runtime import paths
from runtime.errors import NotFound

CHANGED = {"restart": "restarted", "upgrade": "upgraded", "back-out": "backed-out"}
LEFT = Answer("left", reason="the roll-out ended before this container")
SETTLE_S = 2.0
_STYLES = {"current": "good", "differs": "warn", "failed": "bad", "refused": "warn", "left": "dim", "gone": "dim"}


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= 100_000:
            raise argparse.ArgumentTypeError(f"found {text!r}, allowed a number from {least} to 100000")
        return int(text)

    return parse


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
            parser.add_argument("--canary", type=_count(1), metavar="N", help="end after N changed containers")
            parser.add_argument(
                "--max-failed",
                type=_count(0),
                default=0,
                metavar="N",
                help="end only when the agent has failed in more than N containers; default 0",
            )
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
    if any(one.key == filters.STATE for one in arguments.filter):
        seen = Survey().look(chosen, whole=False)
        chosen = [one.container for one in filters.in_state(arguments.filter, seen)]
    rows = [Row(one, name) for one in chosen for name in of(one) if arguments.name in (None, name)]
    if not rows and arguments.name is not None:
        raise NotFound(
            f"NAME: found {arguments.name!r}, allowed an agent of a running container (pouchrich agent status)"
        )
    try:
        if arguments.verb == "status":
            asyncio.run(_look(rows))
        else:
            asyncio.run(
                _roll_out(rows, arguments.verb, arguments.settle, arguments.canary, max_failed=arguments.max_failed)
            )
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


async def _roll_out(
    rows: Sequence[Row], verb: str, settle_s: float, canary: int | None, *, max_failed: int = 0
) -> None:
    """Change row by row, until more than `max_failed` have failed or `canary` rows have been changed."""
    changed = failed = 0
    for row in rows:
        row.answer = await ask(row.container, row.agent, verb, settle_s=settle_s)
        changed += row.answer.outcome == CHANGED[verb]
        failed += row.answer.outcome == "failed"
        if failed > max_failed or changed == canary:
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
