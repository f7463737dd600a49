"""What a run of the tests does to the spawners of its nodes, as POUCHRICH_SPAWNER says.

`off` has every pod server started without one; `killed` kills each node's spawner every second, wherever it is on its
way, so that some pod servers come from one and others from their starter, and every answer is asked for while it dies.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.integration import processes
from tests.integration.node import Node

SWITCH = "POUCHRICH_SPAWNER"
SAYS = ("on", "off", "killed")
EVERY_S = 1.0


def said() -> str:
    """What the environment says. Raises ValueError."""
    found = os.environ.get(SWITCH, "on")
    if found not in SAYS:
        raise ValueError(f"{SWITCH}: found {found!r}, allowed {', '.join(SAYS)}")
    return found


class Killer:
    """Kills the spawner of the node that `running` returns, if any; `killed` counts them."""

    def __init__(self, running: Callable[[], Node | None]) -> None:
        self._running = running
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._kill, name="killer of spawners")
        self.killed = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _kill(self) -> None:
        while not self._done.wait(EVERY_S):
            node = self._running()
            for pid in node.spawners() if node else []:
                self.killed += _kill_spawner(pid)


def _kill_spawner(pid: int) -> bool:
    """Kill process `pid` if it is a spawner still, and no other that has its pid by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not processes.is_spawner(pid):
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


@contextmanager
def as_the_run_says(running: Callable[[], Node | None]) -> Iterator[Killer | None]:
    """Kill spawners for the length of a `with`, in a run that says so. Starts a thread."""
    if said() != "killed":
        yield None
        return
    killer = Killer(running)
    killer.start()
    try:
        yield killer
    finally:
        killer.stop()
