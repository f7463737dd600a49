"""What is known of a container and of the faults that met it: the ground on which it is judged."""

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
    """One container from its creation on. Times are time.monotonic()'s.

    `started` is YES when Start succeeded, OPEN when it failed, in which case it may or may not have happened. `grace_s`
    is of the shortest stop that was asked for. `code` is what the CRI told in the end, None as long as it tells none;
    `state` is how the CRI described it last.
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
    """A fault that was made: what it hit, `began` to `ended`. `pod` and `words` tell whose a process was.

    `given_up` is whether containerd had no bundle of a server any more, and so never calls `delete`. `begun` are the
    poststop hooks that the killed process had begun, as (container's id, where).
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
    """All the faults of a round, as they are made. For several threads."""

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
        """Those on processes of the container's pod."""
        return [one for one in self.all() if one.kind in kinds and one.pod == life.pod]

    def on_container(self, life: Life, kind: str) -> list[Strike]:
        """Those on processes that have the container's id on their command line, and on its init."""
        identity = life.container.id
        return [one for one in self.all() if one.kind == kind and identity in one.words]

    def during(self, life: Life, *kinds: str) -> list[Strike]:
        """Those on the whole node while the container was there."""
        until = life.ended or time.monotonic()
        return [one for one in self.all() if one.kind in kinds and one.began < until and one.ended > life.began]
