"""Where the time of a StartContainer goes: the moments at which programs begin and end, as the kernel tells them.

From tracefs (Documentation/trace/events.rst), sched_process_fork, _exec and _exit, in an instance of its own, of the
node's processes and those that they start, on CLOCK_MONOTONIC. Times are seconds.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.integration import isolation

EVENTS = ("fork", "exec", "exit")
LINE = re.compile(r"-(\d+)\s+\[\d+\]\s+\S+\s+(\d+\.\d+): sched_process_(\w+): (.*)")
BUFFER_KB = 4096


@dataclass(frozen=True)
class Event:
    """`pid` forked (the child is `child`), executed `program`, or ended."""

    at: float
    kind: str
    pid: int
    program: str = ""
    child: int = 0


def parse(text: str) -> list[Event]:
    """The events in what a `trace` file says, in its order, which is that of their times."""
    found = []
    for line in text.splitlines():
        if (matched := LINE.search(line)) and matched[3] in EVENTS:
            pid, at, kind, rest = int(matched[1]), float(matched[2]), matched[3], matched[4]
            words = dict(word.partition("=")[::2] for word in rest.split())
            found.append(Event(at, kind, pid, Path(words.get("filename", "")).name, int(words.get("child_pid", 0))))
    return found


def parts(events: Iterable[Event], began: float, ended: float, *, start: str) -> dict[str, float]:
    """What a StartContainer between `began` and `ended` spent with each, by name of row; empty if it is not told whole.

    What runs and ends meanwhile is the shim's `start` command, by its file name `start`, and the OCI runtime's `create`
    and `start`, by whatever name it is executed. A shim that answered version 3 has no command for a further container.
    """
    found = [event for event in events if began <= event.at <= ended]
    ends = {event.pid: event.at for event in found if event.kind == "exit"}
    forks = {event.child: event.at for event in found if event.kind == "fork"}
    runs = dict[int, str]()
    for event in found:
        if event.kind == "exec":
            runs.setdefault(event.pid, event.program)
    ended_too = [pid for pid in runs if pid in ends and pid in forks]
    commands = [pid for pid in ended_too if runs[pid] == start]
    runtimes = [pid for pid in ended_too if runs[pid] != start]
    if len(runtimes) != 2 or len(commands) > 1:
        return {}
    create, then = runtimes
    before = ends[commands[0]] if commands else began
    told = {"containerd, and the shim's start command": before - began} if commands else {}
    return told | {
        "to the OCI runtime's create": forks[create] - before,
        "the OCI runtime's create": ends[create] - forks[create],
        "to its start": forks[then] - ends[create],
        "its start": ends[then] - forks[then],
        "to containerd's answer": ended - ends[then],
    }


@contextmanager
def watching(pids: Iterable[int], directory: Path) -> Iterator[Callable[[], list[Event]]]:
    """Watch these processes and all that they start; what is yielded returns, and forgets, what was seen.

    tracefs is mounted at `directory` meanwhile. Raises OSError where the kernel has none.
    """
    directory.mkdir()
    isolation.mount("tracefs", directory, "tracefs")
    instance = directory / "instances" / f"pouchrich-{os.getpid()}"
    try:
        instance.mkdir()
        try:
            (instance / "trace_clock").write_text("mono")
            (instance / "buffer_size_kb").write_text(str(BUFFER_KB))
            (instance / "options/event-fork").write_text("1")
            (instance / "set_event_pid").write_text(" ".join(map(str, sorted(_threads(pids)))))
            for kind in EVENTS:
                (instance / f"events/sched/sched_process_{kind}/enable").write_text("1")
            yield lambda: _take(instance / "trace")
        finally:
            instance.rmdir()
    finally:
        isolation.detach(directory)
        directory.rmdir()


def _take(trace: Path) -> list[Event]:
    text = trace.read_text(errors="replace")
    trace.write_text("")
    return parse(text)


def _threads(pids: Iterable[int]) -> set[int]:
    found = set[int]()
    for pid in pids:
        with suppress(FileNotFoundError):
            found.update(map(int, os.listdir(f"/proc/{pid}/task")))
    return found
