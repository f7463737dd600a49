"""The clients of a round: threads that create, use, stop and remove containers, each by its plan."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from hack.chaos import law
from hack.chaos.life import NO, OPEN, YES, Life, Strikes
from hack.chaos.plan import ContainerPlan, PodPlan
from hack.chaos.work import SHARED, WORKS
from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import EXITED, Pod, Pods

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long to wait for an exit after the last fault."""

LOG_S = 5.0
"""How long to wait for the last lines of a log after the exit was reported."""

UP_S = 20.0
REFUSED = (CallFailed, ValueError)
"""The errors of a failed call: ValueError if the connection was closed because containerd is being restarted."""


class Calm:
    """Knows when the last fault of a round was made."""

    def __init__(self) -> None:
        self._at: float | None = None

    def begin(self) -> None:
        self._at = time.monotonic()

    @property
    def seconds(self) -> float:
        """The seconds since the last fault; 0 while there may be more."""
        return 0.0 if self._at is None else time.monotonic() - self._at


class Maker:
    """The state that all clients of a round share."""

    def __init__(
        self,
        pods: Pods,
        *,
        handler: str,
        images: dict[str, str],
        shared: Path,
        annotations: Callable[[str], dict[str, str]],
        calm: Calm,
        strikes: Strikes,
    ) -> None:
        self.pods = pods
        self.handler = handler
        self.images = images
        self.shared = shared
        self.annotations = annotations
        self.calm = calm
        self.strikes = strikes
        self.lives: list[Life] = []
        self.failed_calls: list[str] = []
        self.unanswered: list[str] = []
        self._lock = threading.Lock()

    def attempt(self, what: Callable[[], T]) -> T | None:
        """Make a call; None if it fails, which is noted."""
        try:
            return what()
        except REFUSED as error:
            self.note(error)
            return None

    def note(self, error: Exception) -> None:
        """Note a failed call; a timeout is counted separately."""
        with self._lock:
            self.failed_calls.append(str(error))
            if isinstance(error, CallFailed) and error.code == "DEADLINE_EXCEEDED":
                self.unanswered.append(str(error))

    def running(self) -> list[Life]:
        """The started containers whose end has not been seen."""
        with self._lock:
            return [life for life in self.lives if life.started == YES and life.code is None]

    def add(self, life: Life) -> None:
        with self._lock:
            self.lives.append(life)


class Client(threading.Thread):
    """Makes pods by their plans, one after the other, until `calm` has begun."""

    def __init__(self, maker: Maker, plans: tuple[PodPlan, ...], name: str) -> None:
        super().__init__(name=name)
        self._maker = maker
        self._plans = plans
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for plan in self._plans:
                if self._maker.calm.seconds:
                    return
                self._live(plan)
        except BaseException as error:
            self.error = error

    def _live(self, plan: PodPlan) -> None:
        maker = self._maker
        pod = maker.attempt(lambda: maker.pods.run(handler=maker.handler, annotations=maker.annotations(plan.mode)))
        if pod is None:
            time.sleep(0.3)
            return
        lives = [life for one in plan.containers if (life := self._contain(pod, plan.mode, one))]
        if plan.removed:
            for life in lives:
                finish(maker, life)
            maker.attempt(pod.remove)

    def _contain(self, pod: Pod, mode: str, plan: ContainerPlan) -> Life | None:
        maker = self._maker
        config = pb.ContainerConfig(
            image=pb.ImageSpec(image=maker.images[mode]),
            mounts=[pb.Mount(container_path=SHARED, host_path=str(maker.shared))],
        )
        work = WORKS[plan.work]
        container = maker.attempt(lambda: pod.create(*work.command(plan.name), name=plan.name, config=config))
        if container is None:
            return None
        life = Life(plan, mode, pod.id, container, time.monotonic())
        maker.add(life)
        if not plan.starts:
            return life
        life.started = OPEN  # until the Start is known to have succeeded
        if maker.attempt(container.start) is None:
            return life
        life.started = YES
        for use, share in plan.uses:
            self._use(life, use, share)
        return life

    def _use(self, life: Life, use: str, share: float) -> None:
        maker, container = self._maker, life.container
        if use == "exec":
            answer = maker.attempt(lambda: container.exec("sh", "-c", "echo x; exit 3", timeout_s=20))
            if answer is not None and (answer.exit_code, answer.stdout) != (3, b"x\n"):
                text = f"exit {answer.exit_code}, output {answer.stdout!r}, {answer.stderr[-200:]!r}"
                life.wrong_execs.append((answer.exit_code, text))
        elif use == "stats":
            maker.attempt(container.stats)
        else:
            time.sleep(share)


def finish(maker: Maker, life: Life) -> None:
    """Stop the container if it does not end by itself; wait until its exit is reported and its log is complete.

    Gives up PATIENCE_S after the round's last fault.
    """
    if life.started == NO:
        return
    while maker.calm.seconds < PATIENCE_S:
        try:
            if _told(life) or (life.started == OPEN and life.state == "CONTAINER_CREATED" and maker.calm.seconds):
                break
            if life.work.waits and life.state == "CONTAINER_RUNNING":
                _stop(maker, life)
        except REFUSED as error:
            maker.note(error)
        time.sleep(0.05)
    life.ended = time.monotonic()
    if life.code in law.own_codes(life):
        end = time.monotonic() + LOG_S
        while not law.complete(life) and time.monotonic() < end:
            time.sleep(0.05)


def _told(life: Life) -> bool:
    try:
        status = life.container.status()
    except CallFailed as error:
        if error.code == "NOT_FOUND":
            life.state = "unknown to the CRI"
        raise
    life.state = pb.ContainerState.Name(status.state)
    if status.state == EXITED:
        life.code = status.exit_code
        return True
    return False


def _stop(maker: Maker, life: Life) -> None:
    """Stop a container that does not end by itself, once it is ready for a stop."""
    grace_s = life.plan.stop
    end = time.monotonic() + UP_S
    up = maker.shared / f"{life.plan.name}.up"
    while life.started == YES and not up.exists() and time.monotonic() < end:
        time.sleep(0.02)
    if not up.exists():
        grace_s = 0
    life.grace_s = grace_s if life.grace_s is None else min(grace_s, life.grace_s)
    life.container.stop(grace_s)


def remove_all(pods: Pods) -> list[str]:
    """Remove every pod; return those that could not be removed."""
    failed: list[str] = []
    with suppress(ValueError):
        failed += pods.remove_all()
    return failed
