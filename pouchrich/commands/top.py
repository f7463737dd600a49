"""`pouchrich top`: show what the rich containers use, the largest first, repeatedly until you interrupt it.

CPU is the CPU time since the previous table, in percent of one CPU; memory is the working set. MOST CPU names the part
of the container that used the most CPU time. On a terminal, top uses the whole screen and shows as many containers as
fit; otherwise it prints one table of all containers after another. It needs root. The exit status is 0 after an
interrupt or --count tables.

`--json` prints one object per line for each table, as `pouchrich ps --json` has it, in the order of --sort.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Mapping

from pouchrich import containers, filters
from pouchrich.columns import Column, fitted
from pouchrich.commands.ps import seconds, to_json
from pouchrich.output import Block, Span, age, coloured, line, percent, show, show_json, size, width_of
from pouchrich.seen import Seen
from pouchrich.survey import Survey
from runtime import paths

_SCREEN, _BACK, _HOME = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H\x1b[J"
_SORT: Mapping[str, Callable[[Seen], tuple[float, str]]] = {
    "cpu": lambda one: (-(one.cpu_percent or 0.0), one.container.label),
    "memory": lambda one: (-float(one.memory_bytes or 0), one.container.label),
    "name": lambda one: (0.0, one.container.label),
}
_COLUMNS = (
    Column("ID"),
    Column("NAMESPACE/POD/CONTAINER", least=32, middle=True),
    Column("CPU%", right=True),
    Column("MEMORY", right=True),
    Column("PROCESSES", rank=2, right=True),
    Column("MODE", rank=3),
    Column("STATE", rank=4),
    Column("UPTIME", rank=1, right=True),
    Column("MOST CPU", rank=5, least=20),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    filters.add(parser)
    parser.add_argument(
        "--interval", "-d", type=seconds, default=2.0, metavar="SECONDS", help="time between two tables; default 2"
    )
    parser.add_argument("--count", "-n", type=int, default=0, metavar="N", help="end after N tables")
    parser.add_argument("--sort", choices=_SORT, default="cpu", help="what to sort by; default cpu")
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.set_defaults(run=run)


def run(
    arguments: argparse.Namespace,
    *,
    root: str = paths.BUNDLES,
    survey: Survey | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Print until interrupted, or as often as asked for. Raises PouchrichError, OSError."""
    survey = survey or Survey()
    on_screen = sys.stdout.isatty() and not arguments.json
    survey.look(filters.chosen(arguments.filter, containers.every(root=root)))
    sys.stdout.write(_SCREEN if on_screen else "")
    shown = 0
    try:
        sleep(min(0.5, arguments.interval))
        while True:
            seen = survey.look(filters.chosen(arguments.filter, containers.every(root=root)))
            _print(arguments, sorted(filters.in_state(arguments.filter, seen), key=_SORT[arguments.sort]), on_screen)
            shown += 1
            if shown == arguments.count:
                return 0
            sleep(arguments.interval)
    except KeyboardInterrupt:
        return 0
    finally:
        sys.stdout.write(_BACK if on_screen else "")


def _print(arguments: argparse.Namespace, seen: list[Seen], on_screen: bool) -> None:
    if arguments.json:
        show_json(to_json(seen), compact=True)
        return
    if on_screen:
        sys.stdout.write(_HOME + _screen(seen))
    else:
        show(document(seen, width=width_of(sys.stdout)))
    sys.stdout.flush()


def _screen(seen: list[Seen]) -> str:
    """The document with as many of the first containers, at least one, as fit on the terminal without scrolling."""
    width, height = shutil.get_terminal_size()
    most = min(len(seen), height)
    while True:
        text = coloured(document(seen, width=width, most=most), width=width)
        # The cursor is on the line below the text. Lines are counted in the text, because a narrow terminal wraps some.
        lines = text.count("\n")
        if lines < height or most <= 1:
            return text
        most = max(1, min(most - 1, most * (height - 1) // lines))


def document(seen: list[Seen], *, width: int | None, most: int | None = None) -> list[Block]:
    """A line about all of them, the table of the first `most` (None: all), and how many more there are."""
    cpu = sum(one.cpu_percent or 0.0 for one in seen)
    memory = sum(one.memory_bytes or 0 for one in seen)
    about = line(Span(f"{len(seen)} rich containers, {cpu:.1f}% of a CPU, {size(memory)} of memory", "strong"))
    ids = containers.short_ids(one.container.id for one in seen)
    rows = [
        (
            ids[one.container.id],
            one.container.label,
            percent(one.cpu_percent),
            size(one.memory_bytes),
            str(sum(part.processes for part in one.parts)),
            one.container.mode,
            one.state,
            age(one.uptime_s),
            _most(one),
        )
        for one in seen[:most]
    ]
    blocks: list[Block] = [about, fitted(_COLUMNS, rows, width=width)] if rows else [about]
    more = len(seen) - len(rows)
    return [*blocks, line(Span(f"... {more} more", "dim"))] if more else blocks


def _most(one: Seen) -> str:
    busy = max(one.parts, key=lambda part: part.cpu_percent or 0.0, default=None)
    return "-" if busy is None or not busy.cpu_percent else f"{busy.role} {busy.name}".strip()
