"""The Task service: each method unpacks its request, calls the container, and builds the response.

Protobuf stops here, and nothing here decides anything about containers. Requests run concurrently; work that must not
stop halfway when a client disconnects runs to its end (`run_shielded`).
"""

import asyncio
import os
from collections.abc import Callable

from protos.gen import events_pb2, runc_options_pb2, task_pb2, task_types_pb2
from runtime import members, rootfs
from runtime.bundle import Bundle
from runtime.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from shim.contract import identifiers
from shim.task import checkpoint, packed
from shim.task.cancellation import run_shielded
from shim.task.container.container import Container
from shim.task.container.phase import FREEZING, Phase
from shim.task.container.process import Process, set_exit_fields
from shim.task.create.create import CreateRequest, PodTools, create
from shim.task.reaper import Exit
from shim.task.report import log_fields, measures
from shim.task.stdio.stdio import StdioPaths

MAX_SIGNAL = 64

_STATUS: "dict[Phase, task_types_pb2.Status]" = {
    Phase.CREATED: task_types_pb2.CREATED,
    Phase.STARTING: task_types_pb2.CREATED,
    Phase.RUNNING: task_types_pb2.RUNNING,
    Phase.PAUSING: task_types_pb2.PAUSING,
    Phase.PAUSED: task_types_pb2.PAUSED,
    Phase.RESUMING: task_types_pb2.PAUSED,
    Phase.STOPPED: task_types_pb2.STOPPED,
    Phase.DELETED: task_types_pb2.STOPPED,
}


class TaskService:
    """The containers of one pod.

    `on_empty` is called once Shutdown has been requested and no container is left; `on_change` is called when `idle`
    may have changed.
    """

    def __init__(
        self, namespace: str, tools: PodTools, *, on_empty: Callable[[], None], on_change: Callable[[], None]
    ) -> None:
        self._namespace = namespace
        self._tools = tools
        self._on_empty = on_empty
        self._on_change = on_change
        self._containers: dict[str, Container] = {}
        self._creating: dict[str, asyncio.Event] = {}
        self._shutdown_wanted = False

    @property
    def idle(self) -> bool:
        """Whether there is no container and none is being created."""
        return not self.count

    @property
    def count(self) -> int:
        """The number of containers, including those that are being created."""
        return len(self._containers) + len(self._creating)

    # Life

    async def create(self, request: task_pb2.CreateTaskRequest) -> task_pb2.CreateTaskResponse:
        """Create a container, whose init then waits for Start."""
        identifiers.check("id", request.id)
        if not request.bundle.startswith("/"):
            raise InvalidArgument(f"bundle: found {request.bundle!r}, allowed an absolute path")
        if request.id in self._containers or request.id in self._creating:
            raise AlreadyExists(f"container {request.id}")
        if self._shutdown_wanted and self.idle:
            raise Unavailable("the pod server is shutting down")
        self._shutdown_wanted = False
        self._creating[request.id] = created = asyncio.Event()
        self._on_change()
        try:
            container = await create(_create_request(request, self._namespace), self._tools)
            self._containers[request.id] = container
        except BaseException as err:
            log_fields.unregister_container(request.id)
            measures.count_refusal("create", err)
            raise
        finally:
            del self._creating[request.id]
            created.set()
            self._on_change()
            if self._shutdown_wanted and self.idle:
                self._on_empty()
        container.announce(
            events_pb2.TaskCreate(
                container_id=request.id,
                bundle=request.bundle,
                rootfs=request.rootfs,
                io=events_pb2.TaskIO(
                    stdin=request.stdin,
                    stdout=request.stdout,
                    stderr=request.stderr,
                    terminal=request.terminal,
                ),
                checkpoint=request.checkpoint,
                pid=container.init.pid,
            )
        )
        return task_pb2.CreateTaskResponse(pid=container.init.pid)

    async def start(self, request: task_pb2.StartRequest) -> task_pb2.StartResponse:
        """Start a container's init, or an exec."""
        container = self.container(request.id)
        if request.exec_id:
            # Not shielded: the container can keep the OCI runtime waiting, which then ends with the client's patience.
            return task_pb2.StartResponse(pid=await container.execs.start(request.exec_id))
        try:
            with self._tools.sandbox.starting(container):
                return task_pb2.StartResponse(pid=await run_shielded(container.start()))
        except Exception as err:
            measures.count_refusal("start", err)
            raise

    async def delete(self, request: task_pb2.DeleteRequest) -> task_pb2.DeleteResponse:
        """Remove an exec, or a container with everything that belongs to it."""
        if request.id in self._creating:
            # The client has given up the Create, which is being undone: there will be nothing to delete.
            await self._creating[request.id].wait()
        container = self.container(request.id)
        if request.exec_id:
            process = await run_shielded(container.execs.delete(request.exec_id))
            return _delete_response(process.pid, process.exit)
        return _delete_response(container.init.pid, await run_shielded(self._delete(container)))

    async def _delete(self, container: Container) -> Exit | None:
        is_member = members.is_member_bundle(container.bundle.path)
        exit = await container.delete()
        if self._containers.get(container.id) is container:  # else a concurrent Delete came first
            del self._containers[container.id]
            log_fields.unregister_container(container.id)
            self._on_change()
            if is_member and self._shutdown_wanted and self.idle:
                self._on_empty()
        return exit

    async def shutdown(self, request: task_pb2.ShutdownRequest) -> None:
        """End the pod server if no container is left. While one is being created, wait for that to fail.

        While members of a sandbox are left without the sandbox, the server ends once they are deleted: containerd 2.0
        to 2.3 sends no second Shutdown (core/runtime/v2/shim.go, shimTask.delete). A member that the shim's `delete`
        command has ended gets no Delete: containerd runs that command where it can no longer reach the server.
        """
        self._shutdown_wanted = all(members.is_member_bundle(one.bundle.path) for one in self._containers.values())
        if self._shutdown_wanted and self.idle:
            self._on_empty()
        given_up = filter(_is_given_up, self._containers.values())
        await asyncio.gather(*(run_shielded(self._delete(one)) for one in given_up), return_exceptions=True)

    # Looking

    def state(self, request: task_pb2.StateRequest) -> task_pb2.StateResponse:
        """Return a process's state. Never waits."""
        container = self.container(request.id)
        process = container.process(request.exec_id)
        response = task_pb2.StateResponse(
            id=process.exec_id or container.id,
            bundle=container.bundle.given or container.bundle.path,
            pid=process.pid,
            status=_status(container, process),
            stdin=process.paths.stdin,
            stdout=process.paths.stdout,
            stderr=process.paths.stderr,
            terminal=process.paths.terminal,
        )
        set_exit_fields(response, process.exit if process.waits_released else None)
        return response

    async def wait(self, request: task_pb2.WaitRequest) -> task_pb2.WaitResponse:
        """Return once a process has ended."""
        exit = await self.container(request.id).process(request.exec_id).wait()
        response = task_pb2.WaitResponse()
        set_exit_fields(response, exit)
        return response

    def connect(self, request: task_pb2.ConnectRequest) -> task_pb2.ConnectResponse:
        """Tell containerd the PIDs of the shim and the task, and that the shim is alive. Never fails."""
        container = self._containers.get(request.id)
        return task_pb2.ConnectResponse(shim_pid=os.getpid(), task_pid=container.init.pid if container else 0)

    def pids(self, request: task_pb2.PidsRequest) -> task_pb2.PidsResponse:
        """List the host PIDs of a container's processes; for an exec with its id."""
        response = task_pb2.PidsResponse()
        for pid, exec_id in self.container(request.id).pids():
            entry = response.processes.add(pid=pid)
            if exec_id:
                details = runc_options_pb2.ProcessDetails(exec_id=exec_id)
                entry.info.type_url = details.DESCRIPTOR.full_name
                entry.info.value = details.SerializeToString()
        return response

    def stats(self, request: task_pb2.StatsRequest) -> task_pb2.StatsResponse:
        """Read the container's cgroup."""
        return task_pb2.StatsResponse(stats=self.container(request.id).metrics.to_any())

    def rest(self) -> None:
        """Requests have stopped for a while: close the files that are kept open for frequent Stats."""
        for container in self._containers.values():
            container.metrics.rest()

    # Acting on what runs

    async def kill(self, request: task_pb2.KillRequest) -> None:
        """Send a signal."""
        if request.signal > MAX_SIGNAL:
            raise InvalidArgument(f"signal: found {request.signal}, allowed 0 to {MAX_SIGNAL}")
        container = self.container(request.id)
        await run_shielded(container.kill(request.exec_id, request.signal, everyone=request.all))

    def exec(self, request: task_pb2.ExecProcessRequest) -> None:
        """Register an exec process; Start makes it."""
        identifiers.check("exec_id", request.exec_id)
        paths = StdioPaths(request.stdin, request.stdout, request.stderr, request.terminal)
        container = self.container(request.id)
        container.execs.add(request.exec_id, paths, packed.json_object("spec", request.spec))

    def resize_pty(self, request: task_pb2.ResizePtyRequest) -> None:
        """Set the size of a process's terminal."""
        process = self.container(request.id).process(request.exec_id)
        process.resize(width=request.width, height=request.height)

    def close_io(self, request: task_pb2.CloseIORequest) -> None:
        """End a process's standard input, once the client has closed its own writers."""
        process = self.container(request.id).process(request.exec_id)
        if request.stdin:
            process.close_stdin()

    async def pause(self, request: task_pb2.PauseRequest) -> None:
        """Freeze a container."""
        await run_shielded(self.container(request.id).freezer.pause())

    async def resume(self, request: task_pb2.ResumeRequest) -> None:
        """Thaw a container."""
        await run_shielded(self.container(request.id).freezer.resume())

    async def update(self, request: task_pb2.UpdateTaskRequest) -> None:
        """Change a container's limits."""
        container = self.container(request.id)
        await run_shielded(container.update(packed.json_object("resources", request.resources)))

    async def checkpoint(self, request: task_pb2.CheckpointTaskRequest) -> None:
        """Write a container's state to files."""
        container = self.container(request.id)
        container.life.check_checkpoint()
        with checkpoint.checkpoint_options(request.options, request.path, container.bundle.path) as options:
            await run_shielded(container.checkpoint(options))

    def container(self, container_id: str) -> Container:
        """The container with that id. Raises NotFound."""
        try:
            return self._containers[container_id]
        except KeyError:
            raise NotFound("container not created") from None


def _create_request(request: task_pb2.CreateTaskRequest, namespace: str) -> CreateRequest:
    return CreateRequest(
        id=request.id,
        namespace=namespace,
        bundle=Bundle(os.path.normpath(request.bundle)),
        mounts=tuple(rootfs.Mount(one.type, one.source, one.target, tuple(one.options)) for one in request.rootfs),
        paths=StdioPaths(request.stdin, request.stdout, request.stderr, request.terminal),
        options=request.options,
        checkpoint=request.checkpoint,
        parent_checkpoint=request.parent_checkpoint,
    )


def _is_given_up(container: Container) -> bool:
    path = container.bundle.path
    has_ended = container.init.phase in (Phase.STOPPED, Phase.DELETED)
    return has_ended and members.is_member_bundle(path) and not os.path.exists(path)


def _status(container: Container, process: Process) -> "task_types_pb2.Status":
    """The status to report: RUNNING for a process that has ended until its exit is reported, after poststop hooks.

    A containerd that starts while the hooks run would delete a stopped task, wait ten seconds for that, and then know
    nothing of the exit (CRI plugin, restart.go).
    """
    if process.exit is not None and not process.waits_released:
        return task_types_pb2.RUNNING
    frozen = container.init.phase in FREEZING
    return _STATUS[container.init.phase if frozen and process.exit is None else process.phase]


def _delete_response(pid: int, exit: Exit | None) -> task_pb2.DeleteResponse:
    response = task_pb2.DeleteResponse(pid=pid)
    set_exit_fields(response, exit)
    return response
