"""The kernel's trace of programs: when they begin and end, and the CPU time that they use.

From a private instance in tracefs (Documentation/trace/events.rst), for the node's processes and those that they start,
on CLOCK_MONOTONIC. Times are seconds. A pid is that of a thread, as in the kernel.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.integration import isolation

LIVES = ("sched_process_fork", "sched_process_exec", "sched_process_exit")
TIMES = "sched_stat_runtime"
LINE = re.compile(r"-(\d+)\s+\[\d+\]\s+\S+\s+(\d+\.\d+): sched_(?:process|stat)_(\w+): (.*)")
LOST = re.compile(r"LOST \d+ EVENTS|entries-in-buffer/entries-written: (?!(\d+)/\1 )")
BUFFER_KB = 16384


class Lost(Exception):
    """The kernel's buffer was too small for all events."""


@dataclass(frozen=True)
class Event:
    """`pid` did `kind`: fork (of `child`), exec (of a file called `program`), exit, runtime (it ran `took` seconds)."""

    at: float
    kind: str
    pid: int
    program: str = ""
    child: int = 0
    took: float = 0.0


def parse(text: str) -> list[Event]:
    """The events in the text of a `trace` file, in its order, which is that of their times. Raises Lost."""
    if LOST.search(text):
        raise Lost(text[:200])
    found = []
    for line in text.splitlines():
        if not (matched := LINE.search(line)):
            continue
        pid, at, kind, rest = int(matched[1]), float(matched[2]), matched[3], matched[4]
        words = dict(word.partition("=")[::2] for word in rest.split())
        program, child = Path(words.get("filename", "")).name, int(words.get("child_pid", 0))
        found.append(Event(at, kind, pid, program, child, int(words.get("runtime", 0)) / 1e9))
    return found


@contextmanager
def watching(pids: Iterable[int], directory: Path, events: Iterable[str]) -> Iterator[Callable[[], list[Event]]]:
    """Watch these processes and all that they start. Yields a function that returns the events since its last call.

    tracefs is mounted at `directory` meanwhile. Raises OSError if the kernel has no tracefs.
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
            watched = {thread for pid in pids for thread in threads(pid)}
            (instance / "set_event_pid").write_text(" ".join(map(str, watched)))
            for event in events:
                (instance / f"events/sched/{event}/enable").write_text("1")
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


def threads(pid: int) -> list[int]:
    """The threads of a process; none if it is gone."""
    with suppress(FileNotFoundError):
        return list(map(int, os.listdir(f"/proc/{pid}/task")))
    return []
