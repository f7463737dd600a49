"""The result of one look at a container: its state, its resource use, and the parts that run in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pouchrich.containers import Container
from runtime.cgroup import Cgroup

ROLES = ("init", "application", "service", "agent", "exec")
MAY_HAVE_ENDED = "not running, as its restart setting allows"
"""The state of an agent that is a unit: only the container's systemd knows how it ended."""

_ENDED_WELL = ("ended, exit status 0", MAY_HAVE_ENDED)


@dataclass(frozen=True, slots=True)
class Part:
    """Processes of a container that belong together. `role` is one of ROLES.

    `processes` is their number, `pid` the first one's, 0 if none runs; `memory_bytes` is the sum of their resident
    sets; `cpu_percent` is the share of one CPU since the last look, None at the first. `state` and `restarts` are those
    of a supervised agent.
    """

    role: str
    name: str
    pid: int = 0
    processes: int = 0
    cpu_percent: float | None = None
    memory_bytes: int = 0
    uptime_s: float | None = None
    command: str = ""
    state: str = "running"
    restarts: int | None = None


class Seen(NamedTuple):
    """A container and what runs in it. `memory_bytes` is its working set: usage less inactive file pages."""

    container: Container
    state: str
    cgroup: Cgroup | None = None
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    uptime_s: float | None = None
    parts: tuple[Part, ...] = ()

    @property
    def problems(self) -> Iterator[str]:
        """The container's problems, in words."""
        if count := self.container.restarts:
            yield f"init restarted the application {'once' if count == 1 else f'{count} times'}"
        for part in self.parts:
            if part.role == "agent" and not part.pid and part.state not in _ENDED_WELL:
                restarts = f", {part.restarts} restarts" if part.restarts else ""
                yield f"agent {part.name} does not run: {part.state}{restarts}"
