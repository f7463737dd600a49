"""`pouchrich ps`: the node's rich containers, and in each the tree of init, application, services and agents.

CPU is that of the last half second, or with --watch since the last look, in percent of one CPU; a part's includes its
children that have ended. A container's memory is its working set (cgroup usage less inactive file pages, as the kubelet
counts), a part's the sum of resident sets.

`--json` prints, with --watch once a line:

    {"version": 1, "containers": [{
        "namespace", "id", "bundle": containerd's, "pod": {"namespace", "name"} or null, "name", "image",
        "mode", "init": systemd | sysvinit | openrc | busybox | dumb-init, "state": created | waiting to boot |
        booting | running | paused | stopped | unknown, "cpu_percent", "memory_bytes", "uptime_s": numbers or null,
        "parts": [{"role": init | application | service | agent | exec, "name", "pid": 0 where none runs,
                   "processes": how many, "cpu_percent", "memory_bytes", "uptime_s", "command", "state",
                   "restarts": of an agent that the shim supervises, else null}]}]}

Pids are the host's. A service is a unit where systemd is PID 1, else a child of PID 1 by its name. An exec is what was
started from outside (`kubectl exec`).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from pouchrich import containers
from pouchrich.output import Block, Cell, Span, Table, age, line, percent, show, show_json, size
from pouchrich.survey import Part, Seen, Survey
from runtime import paths

SAMPLE_S = 0.5
_CLEAR = "\x1b[H\x1b[2J"
_COMMAND_WIDTH = 60
_STATES = {
    "running": "good",
    "created": "warn",
    "waiting to boot": "warn",
    "booting": "warn",
    "paused": "warn",
    "unknown": "warn",
    "stopped": "dim",
}


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed seconds from 0.1 to 86400")
    return value


def add(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command line."""
    ps = verbs.add_parser("ps", help="list the rich containers of this node and what runs in them")
    ps.add_argument("--json", action="store_true", help="for programs; the format is stable")
    ps.add_argument("--watch", type=_seconds, metavar="SECONDS", help="again and again, until interrupted")
    ps.set_defaults(run=run)


def to_json(seen: Iterable[Seen]) -> dict[str, Any]:
    """The documented object."""
    return {"version": 1, "containers": [container_json(one) for one in seen]}


def container_json(one: Seen) -> dict[str, Any]:
    """One container of it."""
    about = one.container
    return {
        "namespace": about.namespace,
        "id": about.id,
        "bundle": about.bundle,
        "pod": None if about.pod is None else {"namespace": about.pod[0], "name": about.pod[1]},
        "name": about.name,
        "image": about.image,
        "mode": about.plan.mode,
        "init": about.init,
        "state": one.state,
        "cpu_percent": one.cpu_percent,
        "memory_bytes": one.memory_bytes,
        "uptime_s": one.uptime_s,
        "parts": [asdict(part) for part in one.parts],
    }


def _row(part: Part, branch: str) -> tuple[Cell, ...]:
    more = f" (+{part.processes - 1})" if part.processes > 1 else ""
    command = part.command if len(part.command) <= _COMMAND_WIDTH else f"{part.command[: _COMMAND_WIDTH - 3]}..."
    restarts = f", {part.restarts} restarts" if part.restarts else ""
    state = part.state + restarts if part.role == "agent" else ""
    return (
        f"{branch} {part.role} {part.name}".rstrip(),
        "",
        state,
        f"{part.pid}{more}" if part.pid else "-",
        percent(part.cpu_percent) if part.pid else "-",
        size(part.memory_bytes) if part.pid else "-",
        age(part.uptime_s),
        command,
    )


def rows(one: Seen) -> Iterable[tuple[Cell, ...]]:
    """The rows of a container and of its parts."""
    yield (
        Span(one.container.label, "strong"),
        one.container.plan.mode or "",
        Span(one.state, _STATES.get(one.state, "")),
        "",
        percent(one.cpu_percent),
        size(one.memory_bytes),
        age(one.uptime_s),
        "",
    )
    for number, part in enumerate(one.parts, 1):
        yield _row(part, "└─" if number == len(one.parts) else "├─")


def table(seen: Sequence[Seen]) -> list[Block]:
    """The containers for people."""
    if not seen:
        return [line("no rich containers")]
    heads = ("CONTAINER", "MODE", "STATE", "PID", "CPU%", "MEMORY", "UPTIME", "COMMAND")
    return [Table(heads, tuple(row for one in seen for row in rows(one)), frozenset((3, 4, 5, 6)))]


def run(
    arguments: argparse.Namespace,
    *,
    root: str = paths.BUNDLES,
    survey: Survey | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print once, or until interrupted. Raises PouchrichError, OSError."""
    survey = survey or Survey()
    survey.look(containers.every(root=root))
    sleep(SAMPLE_S)
    while True:
        seen = survey.look(containers.every(root=root))
        if arguments.json:
            show_json(to_json(seen), compact=arguments.watch is not None)
        else:
            if arguments.watch is not None and sys.stdout.isatty():
                sys.stdout.write(_CLEAR)
            show(table(seen))
        if arguments.watch is None:
            return 0
        sys.stdout.flush()
        try:
            sleep(arguments.watch)
        except KeyboardInterrupt:
            return 0
