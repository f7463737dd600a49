"""One round on a node: pods come and go, faults are made, and then everything is checked."""

import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hack.chaos import clients, law, leavings
from hack.chaos.clients import Calm, Client, Maker
from hack.chaos.disk import Disk
from hack.chaos.faults import Faults
from hack.chaos.life import YES, Life, Strikes
from hack.chaos.plan import RoundPlan
from tests.cri.client import CallFailed
from tests.integration import leaks, rich_images
from tests.integration.images import BUSYBOX
from tests.integration.node import Node
from tests.integration.pods import Pods
from tests.integration.rich_images import System
from tests.integration.rich_pods import HANDLER, configure

SYSTEMS = {"systemd": System("systemd"), "sbin-init": System("busybox")}
IMAGES = {"plain": BUSYBOX, "dumb-init": BUSYBOX} | {mode: system.reference for mode, system in SYSTEMS.items()}
REMOVAL_S = 40.0
RECORDS_S = 120.0
START_EVERY_S = 15.0
GONE_S = 90.0
"""How long a pod server may take to end that containerd has forgotten or never used: a minute, and a margin."""
AGENT = '[[agents]]\nname = "agent"\ncommand = ["/bin/sh", "-c", "exec sleep 1000"]\n'
_STATUS = re.compile(r"(?:exit_status|ExitStatus):(\d+)")


@dataclass
class Finding:
    """One error found. `what` is its kind, `whose` the container's name and mode or ""."""

    round: int
    what: str
    whose: str
    detail: str


@dataclass
class Outcome:
    """The result of rounds; `apart` counts costs that a fault or containerd itself explains."""

    faults: Counter[str] = field(default_factory=Counter)
    containers: Counter[str] = field(default_factory=Counter)
    pods: int = 0
    failed_calls: int = 0
    wrong: list[Finding] = field(default_factory=list)
    apart: Counter[str] = field(default_factory=Counter)
    evidence: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        self.faults += other.faults
        self.containers += other.containers
        self.pods += other.pods
        self.failed_calls += other.failed_calls
        self.wrong += other.wrong
        self.apart += other.apart

    def as_json(self) -> dict[str, object]:
        return {
            "faults": dict(self.faults),
            "containers": dict(self.containers),
            "pods": self.pods,
            "failed calls": self.failed_calls,
            "wrong": [asdict(one) for one in self.wrong],
            "apart": dict(self.apart),
        }


class Ground:
    """A node that is ready for rounds with one shim, "ours" or "runc"."""

    def __init__(self, node: Node, shim: str, disk: Disk | None, *, shared: Path) -> None:
        self.node = node
        self.shim = shim
        self.disk = disk
        self.shared = shared
        shutil.rmtree(shared, ignore_errors=True)
        shared.mkdir(mode=0o777, parents=True)
        for system in SYSTEMS.values():
            rich_images.import_system(node, system)
        if shim == "ours":
            configure(node, "", hooks(shared) + AGENT)
        self.handler = HANDLER if shim == "ours" else "runc.v2"
        self.baseline = leaks.everything(node)
        self.pods = Pods(node, self.handler)

    def annotations(self, mode: str) -> dict[str, str]:
        """The annotations that choose the mode; containerd's own shim has only one mode."""
        if self.shim != "ours":
            return {}
        return {"pouchrich.io/rich": "false"} if mode == "plain" else {"pouchrich.io/mode": mode}

    def ran(self, where: str) -> Counter[str]:
        """How often each container's poststop hook has run."""
        path = self.shared / where
        return Counter(path.read_text().split() if path.exists() else ())


def hooks(shared: Path) -> str:
    """The node configuration's hooks, which record their runs in files below `shared`."""

    def table(stage: str, where: str, script: str) -> str:
        command = json.dumps(["/bin/sh", "-c", script])
        return f'[[hooks.{stage}]]\nname = "{stage}-{where}"\nwhere = "{where}"\ncommand = {command}\n'

    return (
        table("poststop", "host", f"echo $POUCHRICH_NAME >>{shared}/host; sleep 0.1")
        + table("poststop", "container", "echo $POUCHRICH_NAME >>/shared/container; sleep 0.1")
        + table("prestart", "container", "true")
    )


def play(ground: Ground, round_plan: RoundPlan, say: Callable[[str], None] = lambda _: None) -> tuple[Outcome, bool]:
    """Play one round; return its outcome, and whether the node is as before. AssertionError if containerd is not."""
    calm, strikes = Calm(), Strikes()
    maker = Maker(
        ground.pods,
        handler=ground.handler,
        images=IMAGES,
        shared=ground.shared,
        annotations=ground.annotations,
        calm=calm,
        strikes=strikes,
    )
    threads = [Client(maker, plans, f"client {number}") for number, plans in enumerate(round_plan.clients)]
    for thread in threads:
        thread.start()
    try:
        Faults(ground.node, maker, strikes, ground.disk).make(round_plan.faults)
    finally:
        calm.begin()
        for thread in threads:
            thread.join()
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    say(f"round {round_plan.number}: {dict(strikes.counted())}, {len(maker.lives)} containers")
    return _look(ground, round_plan.number, maker, strikes)


def _look(ground: Ground, number: int, maker: Maker, strikes: Strikes) -> tuple[Outcome, bool]:
    lives = maker.lives
    maker.calm.begin()  # clients may have been waiting for answers since the last fault
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda life: clients.finish(maker, life), [life for life in lives if not life.ended]))
    outcome = Outcome(strikes.counted(), Counter(life.mode for life in lives), len({life.pod for life in lives}))
    outcome.failed_calls = len(maker.failed_calls)

    def wrong(what: str, whose: str, detail: str) -> None:
        outcome.wrong.append(Finding(number, what, whose, detail))

    log = ground.node.log.read_text(errors="replace")
    for life in lives:
        verdict = law.judge(life, strikes, told=_told(log, life), left_unread=_left_unread(log, life))
        for what, detail in verdict.wrong.items():
            wrong(what, _name(life), detail)
        outcome.apart.update(verdict.apart.keys())
    for text in maker.unanswered:
        wrong("call without an answer", "", text)
    unremovable = _remove(ground.pods)
    for text in unremovable:
        wrong("pod that cannot be removed", "", text)
    _pay(ground)
    _wait(lambda: not ground.node.shims(), GONE_S)
    _judge_hooks(ground, lives, strikes, outcome, wrong)
    left = leavings.once(leaks.settled(ground.node, ground.baseline), ground.node.cgroup)
    excused = leavings.excused(left, strikes, log)
    outcome.apart.update(f"left by {whom}: {line.split()[0]}" for line, whom in excused.items())
    for line in left:
        if line not in excused:
            wrong(f"left: {line.split()[0]}", _whose(line, lives), line)
    leavings.forget_what_containerd_leaves(ground.node)
    clean = not unremovable and not leaks.found(ground.node, ground.baseline)
    outcome.evidence = _evidence(strikes, lives)
    return outcome, clean


def _told(log: str, life: Life) -> frozenset[int]:
    """The exit codes of the container that its shim has told containerd, as containerd's log has them."""
    identity = life.container.id
    lines = (line for line in log.splitlines() if identity in line and "xit event" in line)
    # The text of a protobuf message leaves a status of 0 out.
    return frozenset(int(found[1]) if (found := _STATUS.search(line)) else 0 for line in lines)


def _left_unread(log: str, life: Life) -> bool:
    lines = (line for line in log.splitlines() if life.container.id in line)
    return any("Failed to pipe stdout" in line and "reading from a closed fifo" in line for line in lines)


def _evidence(strikes: Strikes, lives: Sequence[Life]) -> list[str]:
    """The faults and the containers of a round, with times as in containerd's log."""
    off = time.time() - time.monotonic()

    def clock(at: float) -> str:
        return datetime.fromtimestamp(at + off, UTC).strftime("%H:%M:%S.%f")[:-3]

    lines = [f"{clock(one.began)} {clock(one.ended)} {one.kind} {one.pid} {one.words}" for one in strikes.all()]
    lines += [f"{clock(life.began)} {clock(life.ended)} {_name(life)} {life.code} {life.state}" for life in lives]
    return sorted(lines)


def _judge_hooks(
    ground: Ground, lives: Sequence[Life], strikes: Strikes, outcome: Outcome, wrong: Callable[[str, str, str], None]
) -> None:
    if ground.shim != "ours":
        return
    for where in ("host", "container"):
        ran = ground.ran(where)
        for life in lives:
            problem, apart = law.poststop(life, strikes, ran[life.plan.name], where=where)
            if problem:
                wrong("poststop runs", _name(life), problem)
            if apart:
                outcome.apart[apart] += 1


def _pay(ground: Ground) -> None:
    """Wait until no poststop hook is owed any more. A `start` takes up abandoned hooks, once a minute."""
    end = time.monotonic() + RECORDS_S
    while list(ground.node.records()) and time.monotonic() < end:
        if not _wait(lambda: not list(ground.node.records()), START_EVERY_S):
            with suppress(CallFailed, ValueError):
                ground.pods.run(handler=ground.handler, annotations=ground.annotations("plain")).remove()


def _remove(pods: Pods) -> list[str]:
    failed: list[str] = []

    def are_removed() -> bool:
        failed[:] = clients.remove_all(pods)
        return not failed

    _wait(are_removed, REMOVAL_S)
    return failed


def _wait(check: Callable[[], bool], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _name(life: Life) -> str:
    started = "" if life.started == YES else f", Start {life.started}"
    return f"{life.plan.name} ({life.mode}, {life.plan.work}{started}, {life.container.id[:12]}, pod {life.pod[:12]})"


def _whose(line: str, lives: Sequence[Life]) -> str:
    """The container or the pod whose id is in a leftover's name."""
    for life in lives:
        if life.container.id in line:
            return _name(life)
    for life in lives:
        if life.pod in line:
            return f"pod of {_name(life)}"
    return ""
