"""One container of the pod: its init, its execs, and what may happen to them in which order.

The rules are those of containerd's runc shim (task/service.go): a process's start event precedes its exit event; the
exit of init is the last exit event of the container, and releases the Waits on init; no exec starts once init has
ended. Calls of the OCI runtime run concurrently unless the phases exclude that, so requests rarely wait for each other.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from google.protobuf.message import Message

from protos.gen import events_pb2
from runtime import bundle as bundles
from runtime import cgroup as cgroups
from runtime import teardown
from runtime.bundle import Bundle
from runtime.errors import FailedPrecondition, NotFound, PouchrichError
from runtime.oci import argv
from runtime.oci.cli import OCIRuntime
from shim.task.container import phase
from shim.task.container.execs import Execs
from shim.task.container.freezer import Freezer
from shim.task.container.lifecycle import Lifecycle
from shim.task.container.oom import OOMReports
from shim.task.container.phase import Phase
from shim.task.container.process import Process, exit_event, set_exit_fields
from shim.task.reaper import Exit, Reaper
from shim.task.stats.metrics import Metrics
from shim.task.stdio.stdio import Owner
from shim.task.thread import in_thread

SETTLE_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


class Container:
    """A container that the OCI runtime has created. `restore` is the checkpoint that Start restores, if any."""

    def __init__(
        self,
        container_id: str,
        namespace: str,
        bundle: Bundle,
        init: Process,
        *,
        oci: OCIRuntime,
        reaper: Reaper,
        publish: Callable[[Message], Awaitable[None]],
        owner: Owner,
        private_pids: bool,
        life: Lifecycle,
        restore: argv.RestoreOptions | None = None,
    ) -> None:
        self.id = container_id
        self.bundle = bundle
        self.init = init
        self.cgroup: cgroups.Cgroup | None = None
        self.metrics = Metrics(None)
        self.execs = Execs(
            container_id,
            namespace,
            bundle,
            init,
            oci=oci,
            reaper=reaper,
            publish=publish,
            owner=owner,
            changed=self._settle,
        )
        self.freezer = Freezer(container_id, init, self.execs, oci=oci, publish=publish, life=life)
        self._oci = oci
        self._reaper = reaper
        self._publish = publish
        self._private_pids = private_pids
        self.life = life
        self._restore = restore
        self._oom = OOMReports(None, lambda: asyncio.sleep(0))
        self._announced = False
        self._exited = asyncio.Event()
        self._quiet = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._deleting: asyncio.Task[Exit | None] | None = None

    # Looking

    def process(self, exec_id: str) -> Process:
        """The init for "", else the exec with that id. Raises NotFound."""
        return self.execs.get(exec_id) if exec_id else self.init

    def pids(self) -> list[tuple[int, str]]:
        """(host pid, exec id or "") of every process.

        Never empty, not even between init's end and its Delete: a restarting containerd takes an empty answer for a
        leaked shim, and an exit status that it has not asked for yet would be lost.
        """
        ids = self.execs.by_pid()
        found = cgroups.procs(self.cgroup) if self.cgroup is not None else []
        return [(pid, ids.get(pid, "")) for pid in found or [self.init.pid]]

    # Init's life

    def adopt(self, pid: int, hierarchies: Callable[[], cgroups.Hierarchies] = cgroups.hierarchies) -> None:
        """Init exists as host process `pid`: find its cgroup, watch that for OOM kills, and watch for init's end."""
        self.init.pid = pid
        try:
            self.cgroup = cgroups.locate(pid, mounts=hierarchies())
            self.metrics = Metrics(self.cgroup)
            oom = events_pb2.TaskOOM(container_id=self.id)
            self._oom = OOMReports(self.cgroup, lambda: self._publish(oom))
        except (OSError, PouchrichError) as err:
            _log.warning("container %s: no cgroup, so no stats and no OOM events: %s", self.id, err)
        self._reaper.watch(pid, self._init_ended)

    def announce(self, event: Message) -> None:
        """Publish `event`, that the container was created. If init has already ended, its exit follows."""
        self._announced = True
        self._publish(event)
        self._settle()

    def abandon(self) -> None:
        """The container's Create failed: stop watching, and publish no exit of init."""
        self._reaper.forget(self.init.pid)
        self._oom.close()
        self._oci.close()

    async def start(self) -> int:
        """Start init, and return its pid once the application runs.

        Raises FailedPrecondition, RuntimeFailed, HookFailed; the container is then created as before, or has ended.
        """
        if self._deleting is not None:
            raise phase.refused("start", Phase.DELETED)
        self.init.move(Phase.STARTING)
        try:
            await self.life.before_start()
            if self._restore is None:
                await self._oci.start(self.id)
            else:
                await self._start_from_checkpoint(self._restore)
            await self.life.ready()
        except BaseException:
            self.life.start_failed()
            self.init.back(Phase.CREATED)
            self._settle()
            raise
        self.init.move(Phase.RUNNING)
        self._publish(events_pb2.TaskStart(container_id=self.id, pid=self.init.pid))
        self.life.started()
        self._settle()
        return self.init.pid

    async def _start_from_checkpoint(self, options: argv.RestoreOptions) -> None:
        stdio = self.init.stdio
        assert stdio is not None
        os.makedirs(options.work_path, mode=0o711, exist_ok=True)
        with self._reaper.expecting():
            await self._oci.restore(self.id, options, stdio.child_fds())
            self.adopt(bundles.read_pid(self.bundle.init_pid_file))
        await stdio.attach()

    def _init_ended(self, exit: Exit) -> None:
        """Called by the reaper. If a Start is under way, the Start handles the end when it returns."""
        self.init.ended(self.life.ended(exit))
        self._settle()
        self._exited.set()

    def _settle(self) -> None:
        """Handle init's end, unless something that must come before it is still under way."""
        if not self._announced or self.init.exit is None or self.init.phase in (Phase.STARTING, Phase.DELETED):
            return
        if self.init.phase is not Phase.STOPPED:
            frozen = self.init.phase in phase.FREEZING
            self.init.move(Phase.STOPPED)
            self._ending = asyncio.get_running_loop().create_task(self._end(self.init.exit, frozen=frozen))
        if not self.execs.busy():
            self._quiet.set()

    async def _end(self, exit: Exit, *, frozen: bool) -> None:
        """End the container's remaining processes, and publish the exit."""
        await self._end_rest(frozen=frozen)
        await self._quiet.wait()
        self._oom.drain()
        await self.life.after_end(exit, oom_killed=self._oom.is_recent)
        self._oom.close()
        await self._oom.wait_delivered()
        if not self.init.waits_released:
            self._publish(exit_event(self.id, self.id, exit))
            self.init.release_waits()

    async def _end_rest(self, *, frozen: bool) -> None:
        """Thaw frozen processes, which cannot die, and kill those that a shared PID namespace keeps alive."""
        try:
            if not self._private_pids:
                with suppress(NotFound):
                    await self._oci.kill(self.id, signal.SIGKILL, everyone=True)
            if frozen:
                await self._oci.resume(self.id)
        except (PouchrichError, OSError) as err:
            _log.warning("container %s: its remaining processes: %s", self.id, err)

    # Signals and limits

    async def kill(self, exec_id: str, number: int, *, everyone: bool) -> None:
        """Send signal `number` to a process; with `everyone`, to each process of the container.

        Raises NotFound where the process has ended, FailedPrecondition for an exec that has no process yet.
        """
        process = await self.execs.get_after_start(exec_id) if exec_id else self.init
        process.require_alive()
        if not process.pid:
            raise FailedPrecondition("process not created")
        if not exec_id and number != signal.SIGKILL and not (number := self.life.signal(number)):
            return
        if everyone and not exec_id and not (self._private_pids and number == signal.SIGKILL):
            await self._oci.kill(self.id, number, everyone=True)
        else:
            # The process is our child and not reaped yet, so the PID cannot belong to another process.
            os.kill(process.pid, number)
        if not exec_id and number == signal.SIGKILL and self.init.phase is Phase.PAUSED:
            # On cgroup v1 a frozen process takes no signal: thaw it, so that it can die.
            with suppress(PouchrichError):
                await self._oci.resume(self.id)

    async def update(self, resources: dict[str, Any]) -> None:
        """Change limits to an OCI LinuxResources object. Raises FailedPrecondition, RuntimeFailed."""
        if self.init.phase is Phase.STOPPED:
            raise FailedPrecondition("cannot update a stopped container")
        async with self.life.updating():
            await self._oci.update(self.id, resources)

    async def checkpoint(self, options: argv.CheckpointOptions) -> None:
        """Write the container's state to files. Raises FailedPrecondition, RuntimeFailed."""
        if self.init.phase not in (Phase.RUNNING, Phase.PAUSED):
            raise phase.refused("checkpoint", self.init.phase)
        await self._oci.checkpoint(self.id, options)

    # The end

    async def delete(self) -> Exit | None:
        """Have the OCI runtime delete the container, and unmount its root file system. Return how init ended.

        A cancelled call does not stop the delete; a call during another gets the same answer. Raises
        FailedPrecondition; RuntimeFailed or OSError, after which it may be tried again.
        """
        if self._deleting is None:
            if self.init.phase not in (Phase.CREATED, Phase.STOPPED):
                raise phase.refused("delete", self.init.phase)
            self._deleting = asyncio.get_running_loop().create_task(self._delete())
            self._deleting.add_done_callback(self._deleted)
        return await asyncio.shield(self._deleting)

    def _deleted(self, task: "asyncio.Task[Exit | None]") -> None:
        if task.cancelled() or task.exception() is not None:
            self._deleting = None

    async def _delete(self) -> Exit | None:
        await self._settled()
        if self.init.stdio is not None:
            await self.init.stdio.drain()
        created = self.init.phase is Phase.CREATED
        await self._oci.delete(self.id, force=created)
        if created and self.init.pid:
            await self._killed()
        await self.execs.close()
        await self.init.close_stdio()
        await self.life.close()
        self.init.release_waits()
        await in_thread(lambda: teardown.remove_mounts_and_cgroups(self.bundle, self.cgroup))
        teardown.remove_record(self.bundle)
        self._oom.close()
        self.metrics.close()
        self._oci.close()
        self.init.move(Phase.DELETED)
        event = events_pb2.TaskDelete(container_id=self.id, pid=self.init.pid)
        set_exit_fields(event, self.init.exit)
        self._publish(event)
        return self.init.exit

    async def _settled(self) -> None:
        """Wait until the exit is reported, but not forever: an exec that cannot die must not block the Delete."""
        if self._ending is None:
            return
        await asyncio.wait([self._ending], timeout=SETTLE_TIMEOUT_S)
        self._quiet.set()
        await self._ending

    async def _killed(self) -> None:
        """Wait for the end of an init that the OCI runtime has just killed: its exit event precedes the delete."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await self._exited.wait()
        if self._ending is not None:
            await self._ending
