"""Our own service beside containerd's Task, for `pouchrich agent`: agents of running containers are changed.

Behind the same socket, which root alone can connect to.
"""

from collections.abc import Callable

from protos.gen import agents_pb2
from runtime.errors import FailedPrecondition
from shim.task.container.container import Container
from shim.task.container.phase import Phase
from shim.task.whole import run_on


class AgentService:
    """`find` gives the container of an id, or raises NotFound."""

    def __init__(self, find: Callable[[str], Container]) -> None:
        self._find = find

    async def change(self, request: agents_pb2.ChangeRequest) -> agents_pb2.ChangeResponse:
        """See AgentChanges.change; it goes on where the client goes away."""
        container = self._find(request.id)
        phase = container.init.phase
        if request.verb != "look" and phase is not Phase.RUNNING:
            raise FailedPrecondition(f"agent {request.agent}: cannot be changed in a {phase.value} container")
        found = await run_on(
            container.life.change_agent(request.agent, request.verb, settled_s=request.settled_ms / 1000)
        )
        return agents_pb2.ChangeResponse(
            outcome=found.outcome,
            differs=found.differs,
            reason=found.reason,
            can_back_out=found.can_back_out,
            is_unit=found.is_unit,
        )
