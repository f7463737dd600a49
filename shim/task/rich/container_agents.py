"""The agents of one rich container: supervised ones, ones that are systemd units, and the changes of both."""

from collections.abc import Callable
from functools import partial

from runtime import rundir
from runtime.bundle_log import BundleLog
from runtime.cgroup import Cgroup
from runtime.config.model import When
from runtime.errors import NotFound
from runtime.rich.extras import Extras
from shim.task.rich import notes
from shim.task.rich.agent_changes import AgentChanges, Changed
from shim.task.rich.agent_exec import AgentExec
from shim.task.rich.agent_files import AgentFiles
from shim.task.rich.agent_units import AgentUnits
from shim.task.rich.agents import Supervisor
from shim.task.rich.subject import ContainerInfo, ContainerTools


class ContainerAgents:
    """Called at the points of the container's life; without agents nothing happens.

    `selects` tells whether a `when` matches this container; `source` is where its configuration came from; `root` has
    the host uid and gid of the container's root.
    """

    def __init__(
        self,
        about: ContainerInfo,
        extras: Extras,
        tools: ContainerTools,
        *,
        selects: Callable[[When], bool],
        source: str,
        root: tuple[int, int],
    ) -> None:
        self._extras = extras
        self._supervisor: Supervisor | None = None
        self._exec: AgentExec | None = None
        self._files: AgentFiles | None = None
        self._changes: AgentChanges | None = None
        if not extras.chosen:
            return
        self._files = AgentFiles(extras.chosen)
        self._exec = AgentExec(about.id, about.bundle, tools.oci, tools.reaper, owner=root, files=self._files)
        if extras.agents:
            self._supervisor = Supervisor(
                about.id,
                extras.agents,
                self._exec.start,
                changed=partial(notes.write_agents, about.bundle),
                log=BundleLog(about.bundle),
            )
        self._changes = AgentChanges(
            about,
            extras.chosen,
            tuple(extras.unit_agents),
            selects=selects,
            source=source,
            supervisor=self._supervisor,
            units=AgentUnits(rundir.path_of(about.namespace, about.id), about.spec, self._exec, extras.to_units),
            run=self._exec,
            files=self._files,
        )

    @property
    def supervised(self) -> list[str]:
        """The names of the agents that the pod server supervises."""
        return [one.name for one in self._extras.agents]

    @property
    def in_units(self) -> dict[str, str]:
        """See `Extras.unit_agents`."""
        return dict(self._extras.unit_agents)

    async def created(self, init: int, cgroup: Cgroup | None) -> None:
        """The container has been created, with host process `init`. Raises FailedPrecondition, OSError."""
        if self._files is not None:
            await self._files.created(init)
        if self._exec is not None and cgroup is not None:
            self._exec.cgroup_path = cgroup.unified
            self._exec.note_cgroups(self._extras.agents)

    async def start_mandatory(self) -> None:
        """See Supervisor.start_mandatory."""
        if self._supervisor is not None:
            await self._supervisor.start_mandatory()

    def start(self) -> None:
        """The application runs: start the agents."""
        if self._supervisor is not None:
            self._supervisor.start()
        if self._changes is not None:
            self._changes.started()

    def set_paused(self, now: bool) -> None:
        """Start no agent while the container is frozen (`now` true)."""
        if self._exec is not None:
            self._exec.frozen = now
        if self._supervisor is not None:
            (self._supervisor.pause if now else self._supervisor.resume)()

    def leaving(self) -> None:
        """Init is about to shut down: start no agent again. sysvinit waits until no other process lives."""
        if self._supervisor is not None:
            self._supervisor.pause()

    async def wait_for_starts(self) -> None:
        """See AgentExec.wait_for_starts."""
        if self._exec is not None:
            await self._exec.wait_for_starts()

    async def change(self, name: str, verb: str, *, settled_s: float) -> Changed:
        """See AgentChanges.change."""
        if self._changes is None:
            raise NotFound(f"agent {name}: the container was made without it")
        return await self._changes.change(name, verb, settled_s=settled_s)

    async def stop(self) -> None:
        """The container's init has ended: see Supervisor.stop. A change under way is cancelled."""
        if self._changes is not None:
            await self._changes.stop()
        if self._supervisor is not None:
            await self._supervisor.stop()
        if self._files is not None:
            self._files.close()

    def remove_cgroups(self) -> None:
        """See AgentExec.remove_cgroups."""
        if self._exec is not None:
            self._exec.remove_cgroups()
