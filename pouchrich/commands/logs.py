"""`pouchrich logs ID`: show what happened in one rich container, except the application's output (`kubectl logs`).

ID is a container's ID or name as in `pouchrich ps`, or a unique beginning of either. The log has the times of the boot,
what the init printed on its console, the result of each hook with the end of its output, and what agents printed and
how they ended. The output of agents that are units is in the container's journal; --agents says how to read it. --boot,
--console, --hooks and --agents choose among these; without any of them all are shown. Times are UTC. The shim keeps the
last 64 KiB or so, until the container is removed.

Of a container whose start failed, whose init had to be killed or ended first by itself, one of whose poststop hooks did
not end with status 0, or whose pod server was killed, the log is kept after that, and why is printed on standard error:
of the last 8 such containers of each Kubernetes namespace and the last 64 of the node, until a reboot. A container that
exists comes first; --previous asks for one that has ended.

The exit status is 1 if ID names no container or several. --follow ends with status 0 once the container is removed.

`--json` prints one object per line:

    {"version": 1, "at": seconds since 1970, a number, "source": boot | console | hook | agent,
     "name": of the hook (`NAME of the pod` if the pod declared it) or agent, "" for boot and console, "text"}
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from pouchrich import containers, ended_containers, unit_agents
from pouchrich.output import clean, show_json
from runtime import bundle_log, ended, index, paths
from runtime.ended import Ended
from runtime.errors import NotFound

_SEQUENCE = re.compile(r"\x1b\[[0-9:;<=>?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]")
"""Terminal control sequences: CSI, OSC, and all other escapes (ECMA-48)."""
_PAUSE_S = 0.5
_SOURCES = {
    "boot": "only the times of the boot; options of this kind can be combined",
    "console": "only what the init printed on its console",
    "hook": "only the results of hooks, and the end of their output",
    "agent": "only the output of agents that are not units, and how they ended",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "id", metavar="ID", help="a container's ID or name as in `pouchrich ps`, or a unique beginning of either"
    )
    for source in bundle_log.SOURCES:
        words = f"--{source}s" if source in ("hook", "agent") else f"--{source}"
        parser.add_argument(words, dest="sources", action="append_const", const=source, help=_SOURCES[source])
    parser.add_argument("--tail", "-n", type=_count, metavar="N", help="only the last N lines")
    parser.add_argument(
        "--previous", "-p", action="store_true", help="the last container of this name that ended, if it is kept"
    )
    parser.add_argument(
        "--follow", "-f", action="store_true", help="keep printing until the container is gone or you interrupt"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed a number of lines")
    return int(text)


def run(
    arguments: argparse.Namespace, *, root: str = paths.BUNDLES, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Print the lines. Raises PouchrichError, OSError."""
    if arguments.previous:
        return _of_ended(ended_containers.one(arguments.id), arguments)
    try:
        container = containers.one(arguments.id, root=root)
    except NotFound:
        if (kept := ended_containers.find(arguments.id)) is None:
            raise
        return _of_ended(kept, arguments)
    if "agent" in (arguments.sources or ()):
        for name in container.state.get("unit_agents") or ():
            where = unit_agents.output_of(container, name)
            sys.stderr.write(f"pouchrich: agent {clean(name)} is a unit: {clean(where)} shows its output\n")
    wanted = frozenset(arguments.sources or bundle_log.SOURCES)
    lines = [one for one in bundle_log.read(container.bundle) if one["source"] in wanted]
    _print_last(lines, arguments)
    while arguments.follow and (container.namespace, container.id, container.bundle) in index.entries(root=root):
        sys.stdout.flush()
        sleep(_PAUSE_S)
        former, lines = lines, [one for one in bundle_log.read(container.bundle) if one["source"] in wanted]
        _print(_after(lines, former), arguments.json)
    return 0


def _of_ended(kept: Ended, arguments: argparse.Namespace) -> int:
    who = f"{ended_containers.label(kept)} ({kept.id[: containers.SHORT]})"
    text = f"{who} ended at {ended_containers.ended_at(kept)}: {kept.head['reason']}"
    sys.stderr.write(f"pouchrich: {clean(text)}\n")
    wanted = frozenset(arguments.sources or bundle_log.SOURCES)
    _print_last([one for one in ended.lines(kept) if one["source"] in wanted], arguments)
    return 0


def _print_last(lines: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """All of `lines`, or as many as the command line asks for."""
    most = len(lines) if arguments.tail is None else min(len(lines), arguments.tail)
    _print(lines[len(lines) - most :], arguments.json)


def _after(lines: list[dict[str, Any]], former: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of `lines` that came after the last of `former`, the earlier content of the log.

    The log loses lines at its beginning. The lines of one write may be equal, so those equal to the last are counted.
    """
    last = former[-1] if former else None
    places = [number for number, one in enumerate(lines) if one == last]
    return lines[places[min(len(places), former.count(last)) - 1] + 1 :] if places and last is not None else lines


def _print(lines: Iterable[dict[str, Any]], as_json: bool) -> None:
    for one in lines:
        if as_json:
            show_json({"version": 1, **one}, compact=True)
            continue
        stamp = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(float(one["at"]))) + f".{int(one['at'] * 1000) % 1000:03d}Z"
        )
        who = f"{one['source']} {one['name']}".rstrip()
        sys.stdout.write(f"{stamp} {clean(who)}: {shown(str(one['text']))}\n")


def shown(text: str) -> str:
    """A line as a terminal would show it in the end: without control sequences, and with overwritten text replaced."""
    drawn = [part for part in _SEQUENCE.sub("", text).split("\r") if part.strip()]
    return clean(drawn[-1].rstrip() if drawn else "")
