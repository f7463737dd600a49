"""One container of the pod: its init, its execs, and what may happen to them in which order.

The rules it keeps (contract sections 3.4, 3.5): a process's start event goes before its exit event; init's exit is the
last exit of the container, and init's waiters are let go with it; no exec starts once init has ended; a request never
waits for another one's OCI runtime call unless it must, so each call is its own and the phases say what may overlap.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from google.protobuf.message import Message

from protos.gen import events_pb2
from runtime import bundle as bundles
from runtime import cgroup as cgroups
from runtime import rootfs
from runtime.bundle import Bundle
from runtime.cgroup import oom
from runtime.errors import AlreadyExists, FailedPrecondition, NotFound, PouchrichError, RuntimeFailed
from runtime.oci import argv
from runtime.oci.cli import OCIRuntime
from shim.task import phase
from shim.task.phase import Phase
from shim.task.process import Process
from shim.task.reaper import Exit, Reaper
from shim.task.stdio import Owner, StdioPaths
from shim.task.streams import open_stdio
from shim.task.thread import in_thread

SETTLE_TIMEOUT_S = 10.0

_log = logging.getLogger(__name__)


class Container:
    """A container that the OCI runtime has made. `restore` is the checkpoint that its Start is to come from, if any."""

    def __init__(
        self,
        container_id: str,
        namespace: str,
        bundle: Bundle,
        init: Process,
        *,
        oci: OCIRuntime,
        reaper: Reaper,
        publish: Callable[[Message], None],
        owner: Owner,
        private_pids: bool,
        restore: argv.RestoreOptions | None = None,
    ) -> None:
        self.id = container_id
        self.bundle = bundle
        self.init = init
        self.cgroup: cgroups.Cgroup | None = None
        self._namespace = namespace
        self._oci = oci
        self._reaper = reaper
        self._publish = publish
        self._owner = owner
        self._private_pids = private_pids
        self._restore = restore
        self._execs: dict[str, Process] = {}
        self._oom: oom.OomWatch | None = None
        self._announced = False
        self._killing_rest = False
        self._deleting: asyncio.Task[Exit | None] | None = None

    # Looking

    def process(self, exec_id: str) -> Process:
        """Init for "", else the exec. Raises NotFound."""
        if not exec_id:
            return self.init
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFound(f"process does not exist {exec_id}") from None

    def pids(self) -> list[tuple[int, str]]:
        """(host pid, exec id or "") of every process.

        Never empty, also between init's end and its Delete: a containerd that restarts takes an empty answer for a
        leaked shim, and the exit status that nobody has asked for yet would be lost.
        """
        ids = {process.pid: name for name, process in self._execs.items() if process.exit is None}
        found = cgroups.procs(self.cgroup) if self.cgroup is not None else []
        return [(pid, ids.get(pid, "")) for pid in found or [self.init.pid]]

    # Init's life

    def adopt(self, pid: int) -> None:
        """Init exists as host process `pid`: find its cgroup, watch it for OOM kills, and wait for its end."""
        self.init.pid = pid
        try:
            self.cgroup = cgroups.locate(pid)
            self._watch_oom(self.cgroup)
        except (OSError, PouchrichError) as err:
            _log.warning("container %s: no cgroup, so no stats and no OOM events: %s", self.id, err)
        self._reaper.watch(pid, self._init_ended)

    def announce(self, event: Message) -> None:
        """Publish that the container was created; init's end, if it has come by now, follows."""
        self._announced = True
        self._publish(event)
        self._settle()

    def abandon(self) -> None:
        """The container's Create failed: nobody shall hear of init's end, and nothing is watched any more."""
        self._reaper.forget(self.init.pid)
        self._unwatch_oom()

    async def start(self) -> int:
        """Start init. Raises FailedPrecondition, RuntimeFailed."""
        self.init.move(Phase.STARTING)
        try:
            if self._restore is None:
                await self._oci.start(self.id)
            else:
                await self._start_from_checkpoint(self._restore)
        except BaseException:
            self.init.back(Phase.CREATED)
            self._settle()
            raise
        self.init.move(Phase.RUNNING)
        self._publish(events_pb2.TaskStart(container_id=self.id, pid=self.init.pid))
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
        """From the reaper. A Start under way settles it when it is through."""
        self.init.exit = exit
        self._settle()

    def _settle(self) -> None:
        """Publish init's end, once nothing that must come before it is still to come."""
        if not self._announced or self.init.exit is None or self.init.released:
            return
        if self.init.phase in (Phase.STARTING, Phase.DELETED):
            return
        if self.init.phase is not Phase.STOPPED:
            self._init_stopped(was=self.init.phase)
        busy = any(process.phase in (Phase.STARTING, Phase.RUNNING) for process in self._execs.values())
        if not busy and not self._killing_rest:
            self._publish_init_exit(self.init.exit)

    def _init_stopped(self, *, was: Phase) -> None:
        self.init.move(Phase.STOPPED)
        frozen = was in (Phase.PAUSING, Phase.PAUSED, Phase.RESUMING)
        if frozen or not self._private_pids:
            # Frozen processes cannot die, and those that share another pid namespace do not die with init.
            self._killing_rest = True
            asyncio.get_running_loop().create_task(self._end_rest(frozen=frozen))

    async def _end_rest(self, *, frozen: bool) -> None:
        try:
            if not self._private_pids:
                with suppress(NotFound):
                    await self._oci.kill(self.id, signal.SIGKILL, everyone=True)
            if frozen:
                await self._oci.resume(self.id)
        except (PouchrichError, OSError) as err:
            _log.warning("container %s: its remaining processes: %s", self.id, err)
        finally:
            self._killing_rest = False
            self._settle()

    def _publish_init_exit(self, exit: Exit) -> None:
        self._drain_oom()
        self._unwatch_oom()
        self._publish_exit(self.id, exit)
        self.init.release()

    def _publish_exit(self, process_id: str, exit: Exit) -> None:
        event = events_pb2.TaskExit(container_id=self.id, id=process_id, pid=exit.pid, exit_status=exit.status)
        event.exited_at.FromNanoseconds(exit.at)
        self._publish(event)

    # Execs

    def add_exec(self, exec_id: str, paths: StdioPaths, spec: dict[str, Any]) -> None:
        """Remember an exec; nothing runs yet. Raises AlreadyExists, FailedPrecondition."""
        if exec_id in self._execs:
            raise AlreadyExists(f"id {exec_id}")
        if self.init.exit is not None or self.init.phase not in (
            Phase.CREATED,
            Phase.STARTING,
            Phase.RUNNING,
        ):
            raise FailedPrecondition(f"cannot exec in a {self.init.phase.value} state")
        self._execs[exec_id] = ExecProcess(exec_id, paths, {**spec, "terminal": paths.terminal})
        self._publish(events_pb2.TaskExecAdded(container_id=self.id, exec_id=exec_id))

    async def start_exec(self, exec_id: str) -> int:
        """Start an exec. Raises NotFound, FailedPrecondition, RuntimeFailed."""
        process = self.process(exec_id)
        assert isinstance(process, ExecProcess)
        if self.init.exit is not None:
            raise FailedPrecondition(f"container {self.id} init process is not running")
        process.move(Phase.STARTING)
        try:
            with self._reaper.expecting():
                process.pid = await self._make_exec(process)
                process.move(Phase.RUNNING)
                self._publish(events_pb2.TaskExecStarted(container_id=self.id, exec_id=exec_id, pid=process.pid))
                self._reaper.watch(process.pid, lambda exit: self._exec_ended(process, exit))
        except BaseException:
            process.back(Phase.CREATED)
            process.release()  # who waits already would wait for ever
            await asyncio.shield(process.close_stdio())
            self._settle()
            raise
        return process.pid

    async def _make_exec(self, process: "ExecProcess") -> int:
        spec_file = f"{self.bundle.path}/{process.exec_id}-process.json"
        pid_file = self.bundle.exec_pid_file(process.exec_id)
        stdio = await open_stdio(
            process.paths,
            self._owner,
            container_id=process.exec_id,
            namespace=self._namespace,
            reaper=self._reaper,
        )
        process.connect(stdio)
        bundles.write_json(spec_file, process.spec)
        try:
            options = argv.ExecOptions(process=spec_file, pid_file=pid_file, console_socket=stdio.console_socket)
            await self._oci.exec(self.id, options, stdio.child_fds())
            pid = bundles.read_pid(pid_file)
        finally:
            bundles.remove(spec_file)
        try:
            await stdio.attach()
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise
        return pid

    def _exec_ended(self, process: Process, exit: Exit) -> None:
        process.finish(exit)
        self._publish_exit(process.exec_id, exit)
        process.release()
        self._settle()

    # Signals and limits

    async def kill(self, exec_id: str, number: int, *, everyone: bool) -> None:
        """Send signal `number` to a process; with `everyone`, to each process of the container.

        Raises NotFound where it has ended, FailedPrecondition for an exec that has no process yet.
        """
        process = self.process(exec_id)
        process.require_alive()
        if not process.pid:
            raise FailedPrecondition("process not created")
        if everyone and not exec_id and not (self._private_pids and number == signal.SIGKILL):
            await self._oci.kill(self.id, number, everyone=True)
        else:
            # Our own child, and not reaped yet: the pid cannot be another process's.
            os.kill(process.pid, number)
        if number == signal.SIGKILL and self.init.phase is Phase.PAUSED:
            # A frozen process on cgroup v1 takes no signal; what is killed must be able to die.
            with suppress(PouchrichError):
                await self._oci.resume(self.id)

    async def pause(self) -> None:
        """Freeze. Raises FailedPrecondition, RuntimeFailed."""
        if self.init.phase is not Phase.RUNNING:
            raise FailedPrecondition(f"cannot pause task in {self.init.phase.value} state")
        await self._change(Phase.PAUSING, Phase.PAUSED, self._oci.pause)
        self._publish(events_pb2.TaskPaused(container_id=self.id))

    async def resume(self) -> None:
        """Thaw. Raises FailedPrecondition, RuntimeFailed."""
        if self.init.phase is not Phase.PAUSED:
            raise FailedPrecondition(f"cannot resume task in {self.init.phase.value} state")
        await self._change(Phase.RESUMING, Phase.RUNNING, self._oci.resume)
        self._publish(events_pb2.TaskResumed(container_id=self.id))

    async def _change(self, through: Phase, to: Phase, call: Callable[[str], Any]) -> None:
        before = self.init.phase
        self.init.move(through)
        try:
            await call(self.id)
        except BaseException:
            self.init.back(before)
            raise
        if self.init.phase is Phase.STOPPED:
            raise RuntimeFailed("the container ended meanwhile")
        self.init.move(to)

    async def update(self, resources: dict[str, Any]) -> None:
        """Change limits to an OCI LinuxResources object. Raises FailedPrecondition, RuntimeFailed."""
        if self.init.phase is Phase.STOPPED:
            raise FailedPrecondition("cannot update a stopped container")
        await self._oci.update(self.id, resources)

    async def checkpoint(self, options: argv.CheckpointOptions) -> None:
        """Write the container's state to files. Raises FailedPrecondition, RuntimeFailed."""
        if self.init.phase not in (Phase.RUNNING, Phase.PAUSED):
            raise phase.refused("checkpoint", self.init.phase)
        await self._oci.checkpoint(self.id, options)

    # Memory

    def _watch_oom(self, cgroup: cgroups.Cgroup) -> None:
        self._oom = oom.watch(cgroup)
        if self._oom is not None:
            asyncio.get_running_loop().add_reader(self._oom.fileno(), self._drain_oom)

    def _drain_oom(self) -> None:
        if self._oom is not None and self._oom.drain():
            self._publish(events_pb2.TaskOOM(container_id=self.id))

    def _unwatch_oom(self) -> None:
        watch, self._oom = self._oom, None
        if watch is not None:
            asyncio.get_running_loop().remove_reader(watch.fileno())
            watch.close()

    # The end

    async def delete_exec(self, exec_id: str) -> Process:
        """Forget an exec that has ended or never started. Raises NotFound, FailedPrecondition."""
        process = self.process(exec_id)
        if process.phase not in (Phase.CREATED, Phase.STOPPED):
            raise phase.refused("delete", process.phase)
        process.move(Phase.DELETED)
        if process.stdio is not None:
            await process.stdio.drain()
        await process.close_stdio()
        process.release()
        bundles.remove(self.bundle.exec_pid_file(exec_id))
        self._execs.pop(exec_id, None)
        return process

    async def delete(self) -> Exit | None:
        """Have the OCI runtime forget the container, and unmount its root. Return how init ended.

        A caller that gives up does not undo it, and one that comes while it is going on gets the same answer. Raises
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
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while self.init.exit is not None and not self.init.released:
                    await self.init.wait()
        if self.init.exit is not None and not self.init.released:
            self._publish_init_exit(self.init.exit)
        if self.init.stdio is not None:
            await self.init.stdio.drain()
        created = self.init.phase is Phase.CREATED
        await self._oci.delete(self.id, force=created)
        if created and self.init.pid:
            await self._killed()
        for process in (*self._execs.values(), self.init):
            await process.close_stdio()
            process.release()
        await in_thread(lambda: rootfs.unmount_all(self.bundle.rootfs))
        self.bundle.remove_record()
        self._unwatch_oom()
        self.init.move(Phase.DELETED)
        exit = self.init.exit
        event = events_pb2.TaskDelete(container_id=self.id, pid=self.init.pid)
        if exit is not None:
            event.exit_status = exit.status
            event.exited_at.FromNanoseconds(exit.at)
        self._publish(event)
        return exit

    async def _killed(self) -> None:
        """Wait for the end of an init that the OCI runtime has just killed; its exit event goes before the delete."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await self.init.wait()


class ExecProcess(Process):
    """A further process, with the OCI process object to start it by."""

    def __init__(self, exec_id: str, paths: StdioPaths, spec: dict[str, Any]) -> None:
        super().__init__(exec_id, paths)
        self.spec = spec
