"""Keeps the agents of one container running that its init cannot or may not run: all agents in modes dumb-init and
sbin-init, mandatory agents in every mode, since they must run whatever the image makes of its systemd.

The OCI runtime's `exec` starts each agent, in the container's namespaces and cgroup with the pod's restrictions. The
shim alone knows of this exec: no client sees an id, and no TaskExec event is sent. The end of an agent never affects
the application; the end of the container's PID namespace ends the agents.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from runtime.agents.process import Supervised
from runtime.bundle_log import BundleLog
from runtime.errors import FailedPrecondition, NotFound, PouchrichError, RuntimeFailed, text_of
from shim.task.cancellation import run_to_completion
from shim.task.reaper import Exit
from shim.task.report import measures
from shim.task.rich.agent_end import end_process
from shim.task.rich.agent_log import AgentLog

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
SETTLED_S = 0.1
"""A mandatory agent that lives this long after its program was executed counts as running."""
GOOD_LIFE_S = 60.0
"""After a life this long the next restart waits only FIRST_DELAY_S again, as after a first failure."""

Start = Callable[[Supervised, AgentLog, Callable[[Exit], None]], Awaitable[int]]
"""Starts the agent's process with its output to the log, and returns its PID. The last argument is called on its exit.

Raises PouchrichError or OSError where the process cannot be started; the last argument is then not called."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentState:
    """One agent for `pouchrich ps`.

    `state` is `waiting` (for a restart, or for the container to be resumed), `running` or `ended` (for good); `pid` is
    0 while the agent does not run; `since` is a time.time(); `status` is the last exit status, None before the first.
    """

    name: str
    state: str
    pid: int
    restarts: int
    since: float
    status: int | None


class Clock(NamedTuple):
    """The source of times and waits; a test passes its own."""

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
    """The agents of one container. Call all methods from the event loop, which also calls `changed` with `states()`.

    `log` gets what the agents print and how they end."""

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
        """Start the mandatory agents; return once each of them runs.

        Raises RuntimeFailed for an agent whose program cannot be executed, or that ends at once although its `restart`
        does not allow that; no agent is started any more then.
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
        """End the agent of that name and start it anew as `agent`. Return its PID once it has run for `settled_s`
        seconds, or 0 if it has ended for good by then.

        Raises NotFound; FailedPrecondition where the container is frozen or ends; RuntimeFailed where the old process
        does not end or the new one does not run. Even then the agent started last is kept running as its `restart`
        says. Do not call it concurrently for one agent.
        """
        one = next((one for one in self._watched if one.agent.name == agent.name), None)
        if one is None:
            raise NotFound(f"agent {agent.name}: the pod server does not supervise it in this container")
        if self._stopped or not self._may_start.is_set():
            raise FailedPrecondition(
                f"agent {agent.name}: the container {'is ending' if self._stopped else 'is frozen'}"
            )
        # A new object even if it is equal: its identity tells the agent to run from the one that runs.
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
                raise FailedPrecondition(f"agent {agent.name}: the container is ending") from None
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
        """Start no agent while the container is frozen: the OCI runtime's exec would block."""
        self._may_start.clear()

    def resume(self) -> None:
        """The container is thawed: agents may start again."""
        self._may_start.set()

    async def stop(self) -> None:
        """The container's init has ended, and its processes with it: start no agent again. May be repeated.

        Returns when no `exec` of an agent is under way, so that the OCI runtime may delete the container. It kills
        nothing: the agents die with the PID namespace.
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
        """Wait before the next start, or until the agent is replaced."""
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
            # A begun exec cannot be undone: wait until the OCI runtime has ended.
            pid = await run_to_completion(self._start(agent, one.output, partial(_settle, ended)))
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
    """Whether an agent that ended with `status` has ended for good."""
    return agent.restart == "no" or (agent.restart == "on-failure" and status == 0)


def _called(agent: Supervised) -> str:
    return f"{'mandatory agent' if agent.mandatory else 'agent'} {agent.name}"


def _settle(ended: "asyncio.Future[Exit]", exit: Exit) -> None:
    if not ended.done():
        ended.set_result(exit)
