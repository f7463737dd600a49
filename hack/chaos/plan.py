"""The plan of a round, drawn from a seed before it begins: the same seed and round give the same plan.

The plan determines which faults are made, in which order, at which distance and for how long, and what each client
does. What a fault hits at its moment is left to chance.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from hack.chaos.work import PATIENT_S, WORKS

MODES = {"plain": 3, "dumb-init": 3, "systemd": 2, "sbin-init": 2}
"""Mode -> its weight in the draw."""

FAULTS = {
    "server": 5,  # the pod server
    "spawner": 2,
    "prefork": 1,  # the spawner's child for the next request
    "oci": 5,
    "command": 2,  # the shim's `start` or `delete`
    "containerd": 2,
    "runner": 3,  # the runner of poststop hooks after a dead server
    "init": 2,  # PID 1 of a container
    "stop-server": 3,  # SIGSTOP, and SIGCONT a moment later
    "stop-spawner": 1,
    "stop-oci": 1,
    "consumer": 2,  # containerd is stopped, and receives no events
    "disk": 1,  # full for a moment
}
"""How often each is drawn."""

USES = ("exec", "exec", "stats", "nothing")
CLIENTS = 6
PODS = 20
"""The most pods that each client makes, one after the other, while faults are made."""


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """`stop` is the grace period of its stop, if it needs one; `starts` is false if it is only created."""

    name: str
    work: str
    starts: bool
    uses: tuple[tuple[str, float], ...]
    stop: int


@dataclass(frozen=True, slots=True)
class PodPlan:
    """`removed`: the client removes the pod at once, before the round's end."""

    mode: str
    containers: tuple[ContainerPlan, ...]
    removed: bool


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One fault, `after_s` seconds after the last; `pick` chooses among the targets then, `length_s` is its length."""

    kind: str
    after_s: float
    pick: float
    length_s: float


@dataclass(frozen=True, slots=True)
class RoundPlan:
    number: int
    clients: tuple[tuple[PodPlan, ...], ...]
    faults: tuple[FaultPlan, ...]


def draw(seed: int, number: int, *, faults: int, modes: Sequence[str], kinds: Sequence[str]) -> RoundPlan:
    """Draw round `number` of the run `seed`, with `faults` faults of these kinds."""
    chance = random.Random(f"{seed} {number}")
    clients = tuple(
        tuple(_pod(chance, f"r{number}c{client}p{pod}", modes) for pod in range(PODS)) for client in range(CLIENTS)
    )
    weights = [FAULTS[kind] for kind in kinds]
    return RoundPlan(number, clients, tuple(_fault(chance, chance.choices(kinds, weights)[0]) for _ in range(faults)))


def _pod(chance: random.Random, name: str, modes: Sequence[str]) -> PodPlan:
    mode = chance.choices(modes, [MODES[mode] for mode in modes])[0]
    count = chance.choice((1, 1, 2))
    containers = tuple(_container(chance, f"{name}n{number}") for number in range(count))
    return PodPlan(mode, containers, chance.random() < 0.6)


def _container(chance: random.Random, name: str) -> ContainerPlan:
    work = chance.choice(list(WORKS))
    uses = tuple((chance.choice(USES), chance.random()) for _ in range(chance.randrange(4)))
    stop = chance.choice((0, 2, PATIENT_S))
    if WORKS[work].ignores:
        stop = min(stop, 2)  # else it would use the whole grace period
    return ContainerPlan(name, work, chance.random() < 0.95, uses, stop)


def _fault(chance: random.Random, kind: str) -> FaultPlan:
    after, pick, share = chance.uniform(0.1, 0.9), chance.random(), chance.random()
    longest = {"consumer": 6.0, "containerd": 1.0, "disk": 2.0, "runner": 0.6, "command": 0.15}.get(kind, 0.8)
    return FaultPlan(kind, after, pick, 0.02 + share * longest)
