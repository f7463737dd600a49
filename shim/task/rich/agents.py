"""Keeps agents of one container running where no init in it can or may: all of them in modes dumb-init and sbin-init,
those that are mandatory in any. A systemd does what its image says, and the mandatory ones run whatever that is.

Each agent is a further process of the OCI runtime's `exec`, so in the container's namespaces and cgroup with the pod's
restrictions. It is nobody's exec but ours: no client sees an id, no TaskExec event tells of it. What happens to an
agent never reaches the application; what happens to the container ends the agents, as its pid namespace does.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from runtime.agents.process import Supervised
from runtime.bundle_log import BundleLog
from runtime.errors import FailedPrecondition, NotFound, PouchrichError, RuntimeFailed, text_of
from shim.task.reaper import Exit
from shim.task.report import measures
from shim.task.rich.agent_end import end_process
from shim.task.rich.agent_log import AgentLog
from shim.task.whole import run_whole

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
SETTLED_S = 0.1
"""A mandatory agent that lives this long after its program was executed is taken to run."""
GOOD_LIFE_S = 60.0
"""An agent that lived this long is restarted as one that never failed: after FIRST_DELAY_S."""

Start = Callable[[Supervised, AgentLog, Callable[[Exit], None]], Awaitable[int]]
"""Start the process with its output to the log, have the last argument told of its end, and return its pid.

Raises PouchrichError or OSError where it cannot be started; its end is then not told."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentState:
    """One agent for `pouchrich ps`.

    `state` is `waiting` (for a restart, or for the container to be resumed), `running` or `ended` (for good); `pid` is
    0 where it does not run; `since` is a time.time(); `status` is the last exit status, None where there was none.
    """

    name: str
    state: str
    pid: int
    restarts: int
    since: float
    status: int | None


@dataclass(frozen=True, slots=True)
class Clock:
    """Where times and waits come from; a test passes its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class _Watched:
    agent: Supervised
    output: AgentLog
    state: str = "waiting"
    pid: int = 0
    starts: int = 0
    since: float = field(default_factory=time.time)
    status: int | None = None
    begun: "asyncio.Future[asyncio.Future[Exit]] | None" = None
    ended: "asyncio.Future[Exit] | None" = None
    renewed: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self, state: str, *, pid: int = 0) -> None:
        self.state, self.pid, self.since = state, pid, time.time()


class Supervisor:
    """The agents of one container. All methods are called from the event loop; `changed` is, with `states()`.

    `log` gets what they print and how they end."""

    def __init__(
        self,
        container_id: str,
        agents: Sequence[Supervised],
        start: Start,
        *,
        clock: Clock | None = None,
        changed: Callable[[list[AgentState]], None] | None = None,
        log: BundleLog | None = None,
    ) -> None:
        self._changed = changed
        self._log = log
        self._id = container_id
        self._start = start
        self._clock = clock or Clock()
        self._watched = [
            _Watched(one, AgentLog(f"container {container_id}: agent {one.name}", partial(self._say, one.name)))
            for one in agents
        ]
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._may_start = asyncio.Event()
        self._stopped = False

    def start(self) -> None:
        """Start every agent, now that the container runs. May be repeated; after `stop` it does nothing."""
        self._may_start.set()
        for one in self._watched:
            self._begin(one)

    def _begin(self, one: _Watched) -> None:
        if id(one) not in self._tasks and not self._stopped:
            self._tasks[id(one)] = asyncio.get_running_loop().create_task(self._keep(one))

    async def start_mandatory(self) -> None:
        """Start those without which the application may not run; return once each of them runs.

        Raises RuntimeFailed for one whose program cannot be executed, or that ends at once against its `restart`;
        none is started any more then.
        """
        wanted = [one for one in self._watched if one.agent.mandatory]
        if not wanted:
            return
        if self._stopped:
            raise RuntimeFailed(f"mandatory agent {wanted[0].agent.name}: an earlier start has failed")
        self._may_start.set()
        for one in wanted:
            one.begun = asyncio.get_running_loop().create_future()
            self._begin(one)
        try:
            await asyncio.gather(*(self._runs(one, SETTLED_S) for one in wanted))
        except BaseException:
            await self.stop()
            raise

    async def replace(self, agent: Supervised, *, settled_s: float) -> int:
        """End the agent of that name and start it anew as `agent`; its pid once it has run for `settled_s`, 0 if it is
        through by then.

        Raises NotFound; FailedPrecondition where the container is frozen or ends; RuntimeFailed where the old one does
        not end or the new one does not run. What was started last is kept running as its `restart` says, whatever is
        raised. Not to be called twice at a time for one agent.
        """
        one = next((one for one in self._watched if one.agent.name == agent.name), None)
        if one is None:
            raise NotFound(f"agent {agent.name}: not one that the pod server supervises in this container")
        if self._stopped or not self._may_start.is_set():
            raise FailedPrecondition(f"agent {agent.name}: the container {'ends' if self._stopped else 'is frozen'}")
        # Another object also where it is equal: that tells what runs from what is to run.
        one.agent, one.starts, one.begun = replace(agent), 0, asyncio.get_running_loop().create_future()
        one.renewed.set()
        if one.pid and one.ended is not None:
            await end_process(one.pid, one.ended)
            if not one.ended.done():
                raise RuntimeFailed(f"agent {agent.name}: process {one.pid} does not end")
        if (keeper := self._tasks.get(id(one))) is not None and keeper.done():
            del self._tasks[id(one)]
        self._begin(one)
        try:
            await self._runs(one, settled_s)
        except asyncio.CancelledError:
            if self._stopped:
                raise FailedPrecondition(f"agent {agent.name}: the container ends") from None
            raise
        return one.pid

    async def _runs(self, one: _Watched, settled_s: float) -> None:
        assert one.begun is not None
        ended = await one.begun
        settled: asyncio.Future[None] = asyncio.ensure_future(self._clock.sleep(settled_s))
        try:
            both: list[asyncio.Future[Any]] = [ended, settled]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()
        if ended.done() and not _is_through(one.agent, ended.result().status):
            raise RuntimeFailed(f"{_called(one.agent)} ended with status {ended.result().status}")

    def pause(self) -> None:
        """Start none while the container is frozen: the OCI runtime's exec would wait for it."""
        self._may_start.clear()

    def resume(self) -> None:
        """The container is thawed."""
        self._may_start.set()

    async def stop(self) -> None:
        """The container's init has ended, and its processes with it: start none again. May be repeated.

        Returns when no `exec` of ours is under way any more, so that the OCI runtime may be asked to forget the
        container. It kills nothing: the end of the pid namespace does.
        """
        self._stopped = True
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for one in self._watched:
            one.output.close()

    def states(self) -> list[AgentState]:
        """All agents, in the order of the configuration."""
        return [
            AgentState(one.agent.name, one.state, one.pid, max(0, one.starts - 1), one.since, one.status)
            for one in self._watched
        ]

    def _say(self, name: str, texts: Sequence[str]) -> None:
        if self._log is not None:
            self._log.write("agent", name, texts)

    def _enter(self, one: _Watched, state: str, *, pid: int = 0) -> None:
        one.enter(state, pid=pid)
        if self._changed is not None:
            self._changed(self.states())

    async def _keep(self, one: _Watched) -> None:
        delay = FIRST_DELAY_S
        try:
            while True:
                await self._may_start.wait()
                began = self._clock.now()
                one.renewed.clear()
                agent = one.agent
                status = await self._run(one, agent)
                if one.agent is agent and _is_through(agent, status):
                    return
                if self._clock.now() - began >= GOOD_LIFE_S:
                    delay = FIRST_DELAY_S
                self._enter(one, "waiting")
                if one.agent is agent:
                    await self._rest(one, delay)
                delay = min(2 * delay, LONGEST_DELAY_S) if one.agent is agent else FIRST_DELAY_S
        finally:
            if one.begun is not None:
                one.begun.cancel()
            self._enter(one, "ended")

    async def _rest(self, one: _Watched, delay_s: float) -> None:
        """Wait before another start; not where the agent has been replaced."""
        both = asyncio.ensure_future(self._clock.sleep(delay_s)), asyncio.ensure_future(one.renewed.wait())
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in both:
                waiting.cancel()

    async def _run(self, one: _Watched, agent: Supervised) -> int:
        """Start the agent once and wait for its end; return its exit status, or 255 where it could not be started."""
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        one.starts += 1
        if one.starts > 1:
            measures.count("agent_restarts")
        try:
            # Half an exec cannot be called back; the runtime's own end is waited for.
            pid = await run_whole(self._start(agent, one.output, partial(_settle, ended)))
        except (PouchrichError, OSError) as err:
            _log.warning("container %s: agent %s: %s", self._id, agent.name, err)
            self._say(agent.name, [f"could not be started: {text_of(err)}"])
            one.status = 255
            if one.agent is agent and one.begun is not None and not one.begun.done():
                one.begun.set_exception(RuntimeFailed(f"{_called(agent)}: {text_of(err)}"))
            return 255
        one.ended = ended
        self._enter(one, "running", pid=pid)
        if one.agent is not agent:  # replaced while it was being started
            await end_process(pid, ended)
        elif one.begun is not None and not one.begun.done():
            one.begun.set_result(ended)
        exit = await ended
        one.status = exit.status
        level = logging.INFO if exit.status == 0 or one.agent is not agent else logging.WARNING
        _log.log(level, "container %s: agent %s ended with status %d", self._id, one.agent.name, exit.status)
        self._say(one.agent.name, [f"ended with status {exit.status}"])
        return exit.status


def _is_through(agent: Supervised, status: int) -> bool:
    """Whether an agent that ended so is not to be started again."""
    return agent.restart == "no" or (agent.restart == "on-failure" and status == 0)


def _called(agent: Supervised) -> str:
    return f"{'mandatory agent' if agent.mandatory else 'agent'} {agent.name}"


def _settle(ended: "asyncio.Future[Exit]", exit: Exit) -> None:
    if not ended.done():
        ended.set_result(exit)
