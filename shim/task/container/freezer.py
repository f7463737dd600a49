"""Pause and Resume of one container: the OCI runtime freezes and thaws all of its processes at once."""

from collections.abc import Awaitable, Callable

from google.protobuf.message import Message

from protos.gen import events_pb2
from runtime.errors import FailedPrecondition, RuntimeFailed
from runtime.oci.cli import OCIRuntime
from shim.task.container.execs import Execs
from shim.task.container.lifecycle import Lifecycle
from shim.task.container.phase import Phase
from shim.task.container.process import Process


class Freezer:
    """Freezes the container `container_id`; the phase is that of its init.

    An OCI runtime that starts an exec is in the container's cgroup for a while and would be frozen with it. So a Pause
    waits for the Starts under way, and no other begins before the Resume.
    """

    def __init__(
        self,
        container_id: str,
        init: Process,
        execs: Execs,
        *,
        oci: OCIRuntime,
        publish: Callable[[Message], object],
        life: Lifecycle,
    ) -> None:
        self._id = container_id
        self._init = init
        self._execs = execs
        self._oci = oci
        self._publish = publish
        self._life = life

    async def pause(self) -> None:
        """Freeze the container. Raises FailedPrecondition, RuntimeFailed."""
        if self._init.phase is not Phase.RUNNING:
            raise FailedPrecondition(f"cannot pause task in {self._init.phase.value} state")
        self._life.set_paused(True)
        try:
            await self._change(Phase.PAUSING, Phase.PAUSED, self._freeze)
        except BaseException:
            self._life.set_paused(False)
            raise
        self._publish(events_pb2.TaskPaused(container_id=self._id))

    async def _freeze(self, container_id: str) -> None:
        await self._execs.wait_for_starts()
        await self._life.wait_for_starts()
        await self._oci.pause(container_id)

    async def resume(self) -> None:
        """Thaw the container. Raises FailedPrecondition, RuntimeFailed."""
        if self._init.phase is not Phase.PAUSED:
            raise FailedPrecondition(f"cannot resume task in {self._init.phase.value} state")
        await self._change(Phase.RESUMING, Phase.RUNNING, self._oci.resume)
        self._life.set_paused(False)
        self._publish(events_pb2.TaskResumed(container_id=self._id))

    async def _change(self, through: Phase, to: Phase, call: Callable[[str], Awaitable[None]]) -> None:
        before = self._init.phase
        self._init.move(through)
        try:
            await call(self._id)
        except BaseException:
            self._init.back(before)
            raise
        if self._init.phase is Phase.STOPPED:
            raise RuntimeFailed("the container ended meanwhile")
        self._init.move(to)
