"""The life of a rich container: calls its hooks, routes, init, application and agents, each at its time.

`decide` has decided which of these the container has; a part that it does not have is None or empty here.
"""

import logging
from contextlib import AbstractAsyncContextManager
from typing import Any

from runtime import index, rundir
from runtime.bundle_log import BundleLog
from runtime.cgroup import Cgroup
from runtime.errors import Unsupported
from runtime.hooks import environment
from runtime.init import forwarded
from runtime.linux import selinux
from runtime.rich import env_file
from shim.task.application.application import Application
from shim.task.application.stop import StopTracker
from shim.task.checkpoint import REAL_INIT
from shim.task.hooks.hooks import HookRunner
from shim.task.reaper import Exit, Reaper
from shim.task.rich import command, notes, post_mortem, routes
from shim.task.rich.agent_changes import Changed
from shim.task.rich.container_agents import ContainerAgents
from shim.task.rich.decide import Decided
from shim.task.rich.own_cgroups import OwnCgroups
from shim.task.rich.subject import ContainerInfo
from shim.task.rich.times import LifecycleTimes

_log = logging.getLogger(__name__)


class RichLifecycle:
    """Implements `Lifecycle` for a container whose plan says it is rich."""

    def __init__(
        self,
        about: ContainerInfo,
        decided: Decided,
        reaper: Reaper,
        *,
        application: Application | None,
        hooks: HookRunner,
        agents: ContainerAgents,
        cgroups: OwnCgroups,
        stop: StopTracker,
    ) -> None:
        self._about, self._plan = about, decided.plan
        self._extras = decided.extras
        self._helpers = decided.plan.helpers
        self._command_hidden = decided.command_hidden
        self._cgroups = cgroups
        self._reaper = reaper
        self._directory = rundir.path_of(about.namespace, about.id)
        self._application = application
        if application is not None:
            application.restarts.watch(self.note_state)
        self._hooks = hooks
        self._agents = agents
        self._cgroup: Cgroup | None = None
        self._init, self._never_started = 0, True
        self._stop = stop
        self._times = LifecycleTimes(BundleLog(about.bundle), decided.plan.mode or "", stop)

    # Create

    async def prepare(self) -> None:
        """Make what must exist before the OCI runtime creates the container. Raises OSError, InvalidArgument."""
        # First, because `delete` relies on the entry if this process is killed before the rest is done.
        about = self._about
        index.register(about.namespace, about.id, about.bundle)
        rundir.make(self._directory, label=selinux.files_label(about.spec), group=about.root_ids[1])
        rundir.add_programs(self._directory, self._helpers)
        owner, group = about.root_ids[0], about.user_ids[1]
        for file in self._extras.env_files:
            env_file.write(self._directory, file.text, group=group, owner=owner, name=file.name, mode=file.mode)
        if self._application is not None:
            self._application.prepare()
        self._cgroups.prepare()
        await self._hooks.prepare()

    async def abandon(self) -> None:
        """The Create failed: undo what was done."""
        await self._hooks.discard()
        await self.close()

    def init_console(self) -> str:
        """A real init has a private console, unless it has the container's streams or terminal."""
        return self._application.console.socket_path if self._application is not None else ""

    async def created(self, init: int, cgroup: Cgroup | None) -> None:
        """From here on poststop hooks are owed."""
        self._init, self._cgroup = init, cgroup
        await self._agents.created(init, cgroup)
        self._cgroups.created(init, cgroup)
        if self._application is not None:
            await self._application.created(init, cgroup)
        await self._hooks.owe(init)

    # Start

    async def before_start(self) -> None:
        """Set the routes and run the prestart hooks; then start the mandatory agents, or wait for the turn to boot.

        A real init waits for its turn; other containers start their agents. Raises RuntimeFailed, HookFailed for a
        failed hook with `abort`.
        """
        self._times.starts()
        if warning := await routes.apply(self._reaper, self._init, self._extras.routes):
            _log.warning("container %s: %s", self._about.id, warning)
        await self._hooks.run_prestart(init=self._init, cgroup=self._cgroup)
        if self._application is not None:
            self._times.say("waits for its turn to boot")
            await self._application.wait_for_turn()
            self._times.boots()
        else:
            if self._command_hidden:
                await command.require(self._about.spec, self._init)
            await self._agents.start_mandatory()

    async def ready(self) -> None:
        """See Application.ready."""
        if self._application is not None:
            await self._application.ready()

    def started(self) -> None:
        """The application runs: start the agents."""
        self._never_started = False
        self._times.runs()
        self.note_state()
        self._agents.start()

    def note_state(self) -> None:
        """Write what `pouchrich ps` shows of the application; again after init has restarted it."""
        notes.write_state(self._about.id, self._about.bundle, self._state())

    def _state(self) -> dict[str, Any]:
        application = self._application
        return {
            "started_at": self._times.started_at,
            "restarts": application.restarts.count if application is not None else 0,
            "init": self._init,
            "application": application.pid if application is not None else 0,
            "manner": application.manner if application is not None else "",
            "agents": self._agents.supervised,
            "unit_agents": self._agents.in_units,
        }

    def start_failed(self) -> None:
        """The Start failed: whatever ends now is a container that never ran."""
        self._never_started = True
        self._times.failed()
        if self._application is not None:
            self._application.start_failed()

    # Running

    def updating(self) -> AbstractAsyncContextManager[None]:
        """See OwnCgroups.updating."""
        return self._cgroups.updating()

    def set_paused(self, now: bool) -> None:
        """No agent can be started in a frozen container."""
        self._agents.set_paused(now)

    async def wait_for_starts(self) -> None:
        """See ContainerAgents.wait_for_starts."""
        await self._agents.wait_for_starts()

    async def change_agent(self, name: str, verb: str, *, settled_s: float) -> Changed:
        """See AgentChanges.change."""
        try:
            return await self._agents.change(name, verb, settled_s=settled_s)
        finally:
            self._cgroups.show_again()

    def signal(self, number: int) -> int:
        """Signal the application, or init in its own language. dumb-init forwards what it gets and may forward."""
        if self._application is None:
            sent = self._stop.signalled(number)
            return 0 if forwarded.deliver(self._init, sent) else sent
        self._application.signal(number)
        return 0

    def check_checkpoint(self) -> None:
        """Under a real init Unsupported: CRIU cannot save the connections of launcher and init to the shim."""
        if self._application is not None:
            raise Unsupported(f"checkpoint of {REAL_INIT}")

    # The end

    def ended(self, exit: Exit) -> Exit:
        """The task ends as the application ended."""
        self._hooks.init_ended()
        self._cgroups.init_ended()
        self._times.ended()
        return exit if self._application is None else self._application.ended(exit)

    async def after_end(self, exit: Exit, *, oom_killed: bool) -> None:
        """Stop supervising, and run the poststop hooks."""
        await self._agents.stop()
        end = environment.ending(exit.status, oom_killed=oom_killed)
        self._times.exits("StartFailed" if self._never_started else end.reason)
        await self._hooks.run_poststop(environment.NEVER_STARTED if self._never_started else end)
        await self._cgroups.ended()

    async def close(self) -> None:
        """Release everything."""
        await self._agents.stop()
        self._agents.remove_cgroups()
        if self._application is not None:
            self._application.close()
        await self._cgroups.close()
        rundir.remove(self._directory)
        unusual = self._application.shutdown.unusual if self._application is not None else ""
        failed, results = self._times.start_failed, self._hooks.results
        post_mortem.keep(self._about, self._plan, start_failed=failed, results=results, unusual=unusual)
        index.unregister(self._about.namespace, self._about.id)
