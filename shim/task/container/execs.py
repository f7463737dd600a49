"""The exec processes of a container.

An exec's start event precedes its exit event; no exec starts once init has ended (as in containerd's runc shim,
task/service.go).
"""

import asyncio
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from protos.gen import events_pb2
from runtime import bundle as bundles
from runtime.bundle import Bundle
from runtime.cgroup import attach
from runtime.errors import AlreadyExists, FailedPrecondition, NotFound
from runtime.oci import argv
from runtime.oci.cli import OCIRuntime
from runtime.rich import confinement
from shim.task.cancellation import run_to_completion
from shim.task.container import phase
from shim.task.container.phase import Phase
from shim.task.container.process import Process, exit_event
from shim.task.reaper import Exit, Reaper, make, unmake
from shim.task.stdio.stdio import Owner, StdioPaths
from shim.task.stdio.streams import open_stdio


class ExecProcess(Process):
    """An exec process, with the OCI process object that it is started from."""

    def __init__(self, exec_id: str, paths: StdioPaths, spec: dict[str, Any]) -> None:
        super().__init__(exec_id, paths)
        self.spec = spec
        self.settled = asyncio.Event()
        """Clear while a Start is under way, else set."""
        self.settled.set()


class Execs:
    """The execs of one container. `changed` is called whenever an exec has ended or failed to start."""

    def __init__(
        self,
        container_id: str,
        namespace: str,
        bundle: Bundle,
        init: Process,
        *,
        oci: OCIRuntime,
        reaper: Reaper,
        publish: Callable[[Message], object],
        owner: Owner,
        changed: Callable[[], None],
    ) -> None:
        self._container_id = container_id
        self._namespace = namespace
        self._bundle = bundle
        self._init = init
        self._oci = oci
        self._reaper = reaper
        self._publish = publish
        self._owner = owner
        self._changed = changed
        self._processes: dict[str, ExecProcess] = {}
        self.apparmor = ""
        """The AppArmor profile that replaces containerd's default for this container (`runtime.rich.confinement`)."""

    def get(self, exec_id: str) -> ExecProcess:
        """The exec with that id. Raises NotFound."""
        try:
            return self._processes[exec_id]
        except KeyError:
            raise NotFound(f"process does not exist {exec_id}") from None

    def busy(self) -> bool:
        """Whether an exec runs or is being started."""
        return any(process.phase in (Phase.STARTING, Phase.RUNNING) for process in self._processes.values())

    def by_pid(self) -> dict[int, str]:
        """Host PID -> exec id of the live execs."""
        return {process.pid: name for name, process in self._processes.items() if process.exit is None}

    def add(self, exec_id: str, paths: StdioPaths, spec: dict[str, Any]) -> None:
        """Register an exec; its process starts with Start. Raises AlreadyExists, FailedPrecondition."""
        if exec_id in self._processes:
            raise AlreadyExists(f"id {exec_id}")
        if self._init.exit is not None or self._init.phase not in (Phase.CREATED, Phase.STARTING, Phase.RUNNING):
            raise FailedPrecondition(f"cannot exec in a {self._init.phase.value} state")
        if not attach.is_unified():
            attach.prime_migration()  # Start is about to follow
        self._processes[exec_id] = ExecProcess(
            exec_id, paths, {**confinement.process_with_profile(spec, self.apparmor), "terminal": paths.terminal}
        )
        self._publish(events_pb2.TaskExecAdded(container_id=self._container_id, exec_id=exec_id))

    async def start(self, exec_id: str) -> int:
        """Start an exec and return its host pid. When cancelled, the exec is as it was before, and has no process.

        Raises NotFound, FailedPrecondition, RuntimeFailed.
        """
        process = self.get(exec_id)
        if self._init.exit is not None:
            raise FailedPrecondition(f"container {self._container_id} init process is not running")
        if self._init.phase in phase.FREEZING:
            raise FailedPrecondition(f"cannot start an exec in a {self._init.phase.value} state")
        process.move(Phase.STARTING)
        process.rearm()
        process.settled.clear()
        try:
            with self._reaper.expecting():
                process.pid = await self._make(process)
                process.move(Phase.RUNNING)
                started = events_pb2.TaskExecStarted(container_id=self._container_id, exec_id=exec_id, pid=process.pid)
                self._publish(started)
                self._reaper.watch(process.pid, lambda exit: self._ended(process, exit))
        except BaseException:
            process.back(Phase.CREATED)
            process.release_waits()  # a Wait that came before would never return
            try:
                await run_to_completion(process.close_stdio())
            finally:
                self._changed()
            raise
        finally:
            process.settled.set()
        return process.pid

    async def get_after_start(self, exec_id: str) -> ExecProcess:
        """The exec, once no Start of it is under way. Kill and Delete wait for that, as in the runc shim (by a lock).

        A client that gives up a Start sends Kill and Delete at once. Raises NotFound.
        """
        process = self.get(exec_id)
        await process.settled.wait()
        return process

    async def wait_for_starts(self) -> None:
        """Return once no Start is under way. Meanwhile the caller keeps others from beginning."""
        for process in list(self._processes.values()):
            await process.settled.wait()

    async def _make(self, process: ExecProcess) -> int:
        spec_file = f"{self._bundle.path}/{process.exec_id}-process.json"
        pid_file = self._bundle.exec_pid_file(process.exec_id)
        stdio = await open_stdio(
            process.paths,
            self._owner,
            bundle=self._bundle.path,
            container_id=process.exec_id,
            namespace=self._namespace,
            reaper=self._reaper,
        )
        process.connect(stdio)
        try:
            bundles.write_json(spec_file, process.spec)
            options = argv.ExecOptions(process=spec_file, pid_file=pid_file, console_socket=stdio.console_socket)
            pid = await make(self._oci.exec(self._container_id, options, stdio.child_fds()), pid_file, self._reaper)
        finally:
            bundles.unlink_if_exists(spec_file)
        try:
            await stdio.attach()
        except BaseException:
            unmake(pid_file, self._reaper)
            raise
        return pid

    def _ended(self, process: Process, exit: Exit) -> None:
        process.finish(exit)
        self._publish(exit_event(self._container_id, process.exec_id, exit))
        process.release_waits()
        self._changed()

    async def delete(self, exec_id: str) -> Process:
        """Forget an exec that has ended or never started. Raises NotFound, FailedPrecondition."""
        process = await self.get_after_start(exec_id)
        if process.phase is Phase.DELETED:  # by another Delete, which still waits for the last output
            raise NotFound(f"process does not exist {exec_id}")
        if process.phase not in (Phase.CREATED, Phase.STOPPED):
            raise phase.refused("delete", process.phase)
        process.move(Phase.DELETED)
        if process.stdio is not None:
            await process.stdio.drain()
        await process.close_stdio()
        process.release_waits()
        bundles.unlink_if_exists(self._bundle.exec_pid_file(exec_id))
        self._processes.pop(exec_id, None)
        return process

    async def close(self) -> None:
        """The container is being removed: close all streams, and release all Waits."""
        for process in self._processes.values():
            await process.close_stdio()
            process.release_waits()
