"""`pouchrich ps`: list the node's rich containers, one line each, sorted by pod; with --tree also what runs in each.

The table fits the terminal's width or $COLUMNS: columns are left out and long values are cut, unless --no-trunc is
given. inspect, logs and explain take an ID as shown, NAMESPACE/POD/CONTAINER, or a unique beginning of either. Below
a container's line are its problems: an agent that does not run, or restarts of the application by its init.

ps runs no OCI runtime. Only --tree and --json show CPU use, in percent of one CPU: over half a second, or with --watch
since the previous output. For a part it includes children that have ended. A container's memory is its working set
(cgroup usage less inactive file pages, as the kubelet counts), a part's memory is the sum of resident set sizes. ps
needs root. A container whose record this version cannot read is left out and named on standard error. The exit status
is 0 also if there are no containers.

`--json` prints this object, with --watch one per line:

    {"version": 1, "containers": [{
        "namespace", "id": containerd's, "bundle": directory, "pod": {"namespace", "name"}, null outside a pod,
        "name": in the pod, outside a pod the ID, "image": "" outside a pod, "mode": systemd | sbin-init | dumb-init,
        "init": systemd | sysvinit | openrc | busybox | dumb-init, "state": created | waiting to boot | booting |
        running | paused | stopped, "restarts": how often the init restarted the application in place,
        "problems": [strings], "cpu_percent", "memory_bytes", "uptime_s": numbers, null if not known or stopped,
        "parts": [{"role": init | application | service | agent | exec, "name", "pid": 0 if none runs,
                   "processes": number of them, "cpu_percent": number, null if not known, "memory_bytes": number,
                   "uptime_s": number, null if none runs, "command": command line of process `pid`, "state": of an
                   agent in words, else running, "restarts": of an agent that the pod server runs, else null}]}]}

PIDs are the host's. A service is a unit if systemd is PID 1, otherwise a child of PID 1 by its name. An exec was
started from outside, for example by `kubectl exec`. A stopped container has no parts.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pouchrich import containers, filters
from pouchrich.columns import Column, fitted
from pouchrich.output import Block, Cell, Line, Span, Table, age, line, percent, show, show_json, size, width_of
from pouchrich.seen import Part, Seen
from pouchrich.survey import Survey
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
    "stopped": "dim",
}
COLUMNS = (
    Column("ID"),
    Column("NAMESPACE/POD/CONTAINER", least=32, middle=True),
    Column("MODE"),
    Column("STATE"),
    Column("RESTARTS", rank=3, right=True),
    Column("PID", rank=4, right=True),
    Column("MEMORY", rank=1, right=True),
    Column("UPTIME", right=True),
    Column("IMAGE", rank=5, least=24, middle=True),
    Column("COMMAND", rank=6, least=24),
)


def seconds(text: str) -> float:
    """The seconds between two looks, from the command line. Raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed seconds from 0.1 to 86400")
    return value


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    filters.add(parser)
    parser.add_argument(
        "--tree", "-t", action="store_true", help="show also init, application, services, agents and execs"
    )
    parser.add_argument("--no-trunc", action="store_true", help="do not shorten values or leave out columns")
    parser.add_argument("--quiet", "-q", action="store_true", help="print only full IDs")
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.add_argument("--watch", type=seconds, metavar="SECONDS", help="repeat every SECONDS until interrupted")
    parser.set_defaults(run=run)


def to_json(seen: Iterable[Seen]) -> dict[str, Any]:
    """The JSON object that the module's docstring describes."""
    return {"version": 1, "containers": [container_json(one) for one in seen]}


def container_json(one: Seen) -> dict[str, Any]:
    """The JSON object of one container."""
    about = one.container
    return {
        "namespace": about.namespace,
        "id": about.id,
        "bundle": about.bundle,
        "pod": None if about.pod is None else {"namespace": about.pod[0], "name": about.pod[1]},
        "name": about.name,
        "image": about.image,
        "mode": about.mode,
        "init": about.init,
        "state": one.state,
        "restarts": about.restarts,
        "problems": list(one.problems),
        "cpu_percent": one.cpu_percent,
        "memory_bytes": one.memory_bytes,
        "uptime_s": one.uptime_s,
        "parts": [asdict(part) for part in one.parts],
    }


def _row(one: Seen, ids: Mapping[str, str]) -> tuple[Cell, ...]:
    about = one.container
    application = next((part for part in one.parts if part.role == "application"), None)
    return (
        ids.get(about.id, about.id),
        about.label,
        about.mode,
        Span(one.state, _STATES.get(one.state, "")),
        str(about.restarts),
        str(about.init_pid) if one.parts else "-",
        size(one.memory_bytes),
        age(one.uptime_s),
        about.image or "-",
        application.command if application is not None else "-",
    )


def table(seen: Sequence[Seen], *, width: int | None, ids: Mapping[str, str]) -> list[Block]:
    """The containers for people, a line each; `ids` maps an id to its shown part."""
    if not seen:
        return [line("no rich containers")]
    made = fitted(COLUMNS, [_row(one, ids) for one in seen], width=width)
    below = {at: tuple(_problem(text) for text in one.problems) for at, one in enumerate(seen)}
    return [Table(made.heads, made.rows, made.right, made.indent, below)]


def _problem(text: str) -> Line:
    return line(Span(f"! {text}", "warn"), indent=2)


def _part_row(part: Part, branch: str) -> tuple[Cell, ...]:
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


def _tree_rows(one: Seen) -> Iterable[tuple[Cell, ...]]:
    yield (
        Span(one.container.label, "strong"),
        one.container.mode,
        Span(one.state, _STATES.get(one.state, "")),
        "",
        percent(one.cpu_percent),
        size(one.memory_bytes),
        age(one.uptime_s),
        "",
    )
    for number, part in enumerate(one.parts, 1):
        yield _part_row(part, "└─" if number == len(one.parts) else "├─")


def tree(seen: Sequence[Seen], *, width: int | None) -> list[Block]:
    """The containers for people, and what runs in each."""
    if not seen:
        return [line("no rich containers")]
    columns = (
        Column("CONTAINER", least=30, middle=True),
        Column("MODE", rank=2),
        Column("STATE", least=7),
        Column("PID", right=True),
        Column("CPU%", right=True),
        Column("MEMORY", right=True),
        Column("UPTIME", right=True),
        Column("COMMAND", rank=1, least=20),
    )
    return [fitted(columns, [row for one in seen for row in _tree_rows(one)], width=width)]


def run(
    arguments: argparse.Namespace,
    *,
    root: str = paths.BUNDLES,
    survey: Survey | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print once, or until interrupted. Raises PouchrichError, OSError."""
    survey = survey or Survey()

    whole = (arguments.tree or arguments.json) and not arguments.quiet

    def look() -> tuple[list[Seen], dict[str, str]]:
        there = containers.every(root=root)
        ids = {} if arguments.no_trunc else containers.short_ids(one.id for one in there)
        seen = survey.look(filters.chosen(arguments.filter, there), whole=whole)
        return filters.in_state(arguments.filter, seen), ids

    # CPU use is the difference of two looks.
    if whole:
        look()
        sleep(SAMPLE_S)
    while True:
        _print(arguments, *look())
        if arguments.watch is None:
            return 0
        sys.stdout.flush()
        try:
            sleep(arguments.watch)
        except KeyboardInterrupt:
            return 0


def _print(arguments: argparse.Namespace, seen: list[Seen], ids: Mapping[str, str]) -> None:
    width = None if arguments.no_trunc else width_of(sys.stdout)
    if arguments.quiet:
        sys.stdout.write("".join(f"{one.container.id}\n" for one in seen))
    elif arguments.json:
        show_json(to_json(seen), compact=arguments.watch is not None)
    else:
        if arguments.watch is not None and sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        show(tree(seen, width=width) if arguments.tree else table(seen, width=width, ids=ids))
