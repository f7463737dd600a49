"""A process's streams that note what is asked of them."""

from collections.abc import Callable
from typing import Any


class NotedStdio:
    """Implements `shim.task.stdio.Stdio`: `said` is what was asked, `fails[name]` an error that the call raises.

    `is_over`: the process's end was told.
    """

    console_socket = ""

    def __init__(self, note: Callable[[str], Any] = lambda said: None) -> None:
        self.said: list[str] = []
        self.is_over = False
        self.fails: dict[str, BaseException] = {}
        self._note = note

    def _say(self, what: str) -> None:
        self.said.append(what)
        self._note(f"stdio.{what}")
        if what in self.fails:
            raise self.fails[what]

    def child_fds(self) -> dict[int, int]:
        return {}

    async def attach(self) -> None:
        self._say("attach")

    def close_stdin(self) -> None:
        self._say("close_stdin")

    def resize(self, *, width: int, height: int) -> None:
        self._say(f"resize {width} {height}")

    def process_ended(self) -> None:
        self.is_over = True

    def discard(self) -> None:
        self._say("discard")

    async def drain(self) -> None:
        self._say("drain")

    async def close(self) -> None:
        self._say("close")
