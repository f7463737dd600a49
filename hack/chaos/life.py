"""The facts about a container and the faults that hit it, by which it is judged."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from hack.chaos.plan import ContainerPlan
from hack.chaos.work import WORKS, Work
from tests.integration.pods import Container

NO, OPEN, YES = "no", "open", "yes"


@dataclass
class Life:
    """One container from its creation on. Times are those of time.monotonic().

    `started` is YES if Start succeeded, OPEN if it failed, and so may or may not have happened. `grace_s` is that of
    the shortest requested stop. `code` is the exit code that the CRI reports, None before that; `state` is the CRI's
    last description of the container.
    """

    plan: ContainerPlan
    mode: str
    pod: str
    container: Container
    began: float
    started: str = NO
    grace_s: int | None = None
    code: int | None = None
    state: str = "never asked"
    ended: float = 0.0
    wrong_execs: list[tuple[int, str]] = field(default_factory=list)

    @property
    def work(self) -> Work:
        return WORKS[self.plan.work]

    @property
    def rich(self) -> bool:
        return self.mode != "plain"


@dataclass
class Strike:
    """A fault that was made, from `began` to `ended`, and what it hit. `pod` and `words` identify the process.

    `given_up`: containerd no longer had a bundle for the server, and so never runs `delete`. `begun` are the poststop
    hooks that the killed process had begun, as (container's id, where).
    """

    kind: str
    began: float
    ended: float
    pid: int = 0
    pod: str = ""
    words: str = ""
    given_up: bool = False
    begun: frozenset[tuple[str, str]] = frozenset()


class Strikes:
    """All faults of a round, as they are made. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Strike] = []

    def add(self, strike: Strike) -> None:
        with self._lock:
            self._all.append(strike)

    def all(self) -> list[Strike]:
        with self._lock:
            return list(self._all)

    def counted(self) -> Counter[str]:
        return Counter(strike.kind for strike in self.all())

    def on_pod(self, life: Life, *kinds: str) -> list[Strike]:
        """The faults on processes of the container's pod."""
        return [one for one in self.all() if one.kind in kinds and one.pod == life.pod]

    def on_container(self, life: Life, kind: str) -> list[Strike]:
        """The faults on processes with the container's id on their command line, and on its init."""
        identity = life.container.id
        return [one for one in self.all() if one.kind == kind and identity in one.words]

    def during(self, life: Life, *kinds: str) -> list[Strike]:
        """The faults on the whole node while the container existed."""
        until = life.ended or time.monotonic()
        return [one for one in self.all() if one.kind in kinds and one.began < until and one.ended > life.began]
