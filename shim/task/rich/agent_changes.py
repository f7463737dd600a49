"""Changes the agents of one running container, as the node's administrator asks for them one by one.

The pod server itself reads the new agent from the configuration file that the container was made with, and applies the
checks of a Create. The client names only the agent, and nothing comes from the pod. One change runs at a time; a change
that fails is undone at once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from runtime.agents import change, mounts, select
from runtime.agents.cgroup import has_v2_memory
from runtime.agents.process import supervised
from runtime.agents.select import Selected
from runtime.config import file as config_file
from runtime.config.model import Config, When
from runtime.errors import FailedPrecondition, InvalidArgument, NotFound, PouchrichError, RuntimeFailed, text_of
from shim.task.hooks.hook_run import user_below
from shim.task.rich.agent_exec import AgentExec
from shim.task.rich.agent_files import AgentFiles
from shim.task.rich.agent_units import AgentUnits
from shim.task.rich.agents import Supervisor
from shim.task.rich.subject import ContainerInfo
from shim.task.thread import NODE_PATIENCE_S, answered

VERBS = ("look", "restart", "upgrade", "back-out")
LONGEST_SETTLED_S = 600.0
USER_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Changed:
    """An agent after a request. `outcome` is `current`, `differs`, `restarted`, `upgraded` or `backed-out`.

    `differs` are the keys in which the running agent differs from the configuration. `reason` is why this container
    cannot have the configured agent, "" if it can. `can_back_out`: there is an earlier agent to go back to.
    """

    outcome: str
    differs: tuple[str, ...]
    reason: str
    can_back_out: bool
    is_unit: bool


def _load(path: str) -> Config:
    return config_file.load(path, programs=False)  # no hook runs


class AgentChanges:
    """The agents `chosen` of one container; those named in `in_units` are units of its systemd.

    `selects` tells whether a `when` matches this container; `source` is where its configuration came from.
    """

    def __init__(
        self,
        about: ContainerInfo,
        chosen: Sequence[Selected],
        in_units: Sequence[str],
        *,
        selects: Callable[[When], bool],
        source: str,
        supervisor: Supervisor | None,
        units: AgentUnits,
        run: AgentExec,
        files: AgentFiles,
        load: Callable[[str], Config] = _load,
    ) -> None:
        self._about = about
        self._running = {one.agent.name: one for one in chosen}
        self._before: dict[str, Selected] = {}
        self._in_units = frozenset(in_units)
        self._selects = selects
        self._source = source
        self._supervisor = supervisor
        self._units = units
        self._run = run
        self._files = files
        self._load = load
        self._has_started = False
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def started(self) -> None:
        """The container runs: changes are possible from now on."""
        self._has_started = True

    async def stop(self) -> None:
        """The container ends: cancel a change under way, and refuse further ones. May be repeated."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def change(self, name: str, verb: str, *, settled_s: float) -> Changed:
        """Do one of VERBS to the agent `name`, which must then run for `settled_s` seconds.

        Raises InvalidArgument for a bad request or configuration; NotFound for an agent that the container does not
        have; FailedPrecondition where the change is impossible now, or in this container; RuntimeFailed where the agent
        does not run: the earlier agent then runs again, or the message says that it does not.
        """
        running = self._running.get(name)
        if running is None:
            raise NotFound(f"agent {name}: the container was made without it")
        if verb not in VERBS or not 0 <= settled_s <= LONGEST_SETTLED_S:
            raise InvalidArgument(f"found {verb} and {settled_s:g}s, allowed {', '.join(VERBS)} and 0s to 600s")
        if verb == "look":
            return await self._look(running)
        if not self._has_started or self._over:
            raise FailedPrecondition(f"agent {name}: the container {'is ending' if self._over else 'has not started'}")
        if self._task is not None:
            raise FailedPrecondition(f"agent {name}: another change is under way in this container")
        act = {"restart": self._restart, "upgrade": self._upgrade, "back-out": self._back_out}[verb]
        self._task = asyncio.get_running_loop().create_task(act(running, settled_s))
        try:
            await asyncio.wait([self._task])
            if self._task.cancelled():
                raise FailedPrecondition(f"agent {name}: the container is ending")
            self._task.result()
        finally:
            self._task = None
        found = await self._look(self._running[name])
        done = {"restart": "restarted", "back-out": "backed-out", "upgrade": "upgraded"}[verb]
        outcome = "current" if verb == "upgrade" and self._running[name] is running else done
        _log.info("container %s: agent %s: %s, as requested", self._about.id, name, outcome)
        return Changed(outcome, found.differs, found.reason, found.can_back_out, found.is_unit)

    async def _look(self, running: Selected) -> Changed:
        name, reason = running.agent.name, ""
        differs: tuple[str, ...] = ()
        try:
            wanted = await self._wanted(running)
            differs = change.differences(running.agent, wanted.agent)
            self._require_possible(running, wanted)
        except (PouchrichError, OSError) as err:
            reason = text_of(err)
        outcome = "differs" if differs or reason else "current"
        return Changed(outcome, differs, reason, name in self._before, name in self._in_units)

    async def _wanted(self, running: Selected) -> Selected:
        """The agent as it is configured now. Raises InvalidArgument, NotFound, FailedPrecondition."""
        name = running.agent.name
        if not self._source.startswith("/"):
            raise FailedPrecondition(
                f"agent {name}: its configuration is in {self._source}, which containerd passes only at Create; put it"
                " into a file (ConfigPath) to change agents in running containers"
            )
        config = self._load(self._source)
        users = {}
        named = next((one for one in config.agents if one.name == name), None)
        if named is None or not self._selects(named.when):
            raise NotFound(
                f"{self._source}: agents: {name} is not there any more for this container, where it still runs"
            )
        if named.user is not None:
            found = running.user
            if named.user != running.agent.user:
                found = await user_below(self._about.root, named.user, timeout_s=USER_TIMEOUT_S) or found
            users[named.user] = found
        (wanted,) = select.select(
            config.agents,
            lambda agent: agent.name == name,
            resolve=lambda user: users[user],
            source=self._source,
            has_v2_memory=has_v2_memory(),
        )
        return wanted

    def _require_possible(self, running: Selected, wanted: Selected) -> None:
        is_unit = running.agent.name in self._in_units
        change.require_possible(running, wanted, source=self._source, is_unit=is_unit)

    async def _restart(self, running: Selected, settled_s: float) -> None:
        await self._files.require_nodes(running.agent)
        await self._put(running, settled_s, is_new=False)

    async def _upgrade(self, running: Selected, settled_s: float) -> None:
        wanted = await self._wanted(running)
        if not change.differences(running.agent, wanted.agent):
            return
        self._require_possible(running, wanted)
        check = partial(mounts.check_sources, [wanted], source=self._source)
        await answered(check, what=f"{self._source}: agents: mounts of {wanted.agent.name}", patience_s=NODE_PATIENCE_S)
        await self._files.require_nodes(wanted.agent)
        await self._exchange(running, wanted, settled_s)
        self._before[wanted.agent.name] = running

    async def _back_out(self, running: Selected, settled_s: float) -> None:
        before = self._before.get(running.agent.name)
        if before is None:
            raise FailedPrecondition(f"agent {running.agent.name}: found no upgrade to back out in this container")
        await self._files.require_nodes(before.agent)
        await self._exchange(running, before, settled_s)
        del self._before[running.agent.name]

    async def _exchange(self, running: Selected, wanted: Selected, settled_s: float) -> None:
        """Replace `running` by `wanted`. If that fails, start `running` again and raise RuntimeFailed."""
        try:
            await self._put(wanted, settled_s, is_new=True)
        except (PouchrichError, OSError) as err:
            _log.warning("container %s: agent %s: %s", self._about.id, wanted.agent.name, text_of(err))
            try:
                await self._put(running, 0.0, is_new=True)
            except (PouchrichError, OSError) as worse:
                raise RuntimeFailed(
                    f"{text_of(err)}; the one before could not be started again: {text_of(worse)}"
                ) from err
            raise RuntimeFailed(f"{text_of(err)}; the one before runs again") from err
        self._running[wanted.agent.name] = wanted

    async def _put(self, one: Selected, settled_s: float, *, is_new: bool) -> None:
        if one.agent.name in self._in_units:
            await self._units.replace(one, source=self._source, text_changed=is_new, settled_s=settled_s)
            return
        assert self._supervisor is not None
        made = supervised(one, self._about.spec)
        if is_new:
            self._run.note_cgroups([made, *(supervised(other, self._about.spec) for other in self._running.values())])
        await self._supervisor.replace(made, settled_s=settled_s)
