"""What a pod server's reaper does, by a test's word: nothing runs, and nothing ends but what the test ends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shim.task.reaper import Exit


class NotedReaper:
    """Stands for `shim.task.reaper.Reaper`, strictly: a watch begins while an end is expected, and only once a pid."""

    def __init__(self, note: Callable[[str], object] = lambda said: None) -> None:
        self.watched: dict[int, Callable[[Exit], None]] = {}
        self.forgotten: list[int] = []
        self.killed: list[int] = []
        self._expecting = 0
        self._note = note

    @contextmanager
    def expecting(self) -> Iterator[None]:
        self._expecting += 1
        try:
            yield
        finally:
            self._expecting -= 1

    def watch(self, pid: int, told: Callable[[Exit], None]) -> None:
        assert self._expecting, "the process may have ended before, and nobody has kept its exit"
        assert pid not in self.watched
        self._note("watch")
        self.watched[pid] = told

    def kill(self, pid: int) -> None:
        self.killed.append(pid)

    def forget(self, pid: int) -> None:
        self._note("forget")
        self.forgotten.append(pid)
        self.watched.pop(pid, None)

    def end(self, pid: int, status: int = 0) -> None:
        """The process has ended."""
        self.watched.pop(pid)(Exit(pid, status, 1_000))
