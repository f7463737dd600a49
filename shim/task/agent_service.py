"""The shim's own ttrpc service beside containerd's Task service: `pouchrich agent` changes running agents through it.

It is served on the same socket, to which only root can connect.
"""

from collections.abc import Callable

from protos.gen import agents_pb2
from runtime.errors import FailedPrecondition
from shim.task.cancellation import run_shielded
from shim.task.container.container import Container
from shim.task.container.phase import Phase


class AgentService:
    """Serves the agents of all containers of the pod. `find` returns the container with an id, or raises NotFound."""

    def __init__(self, find: Callable[[str], Container]) -> None:
        self._find = find

    async def change(self, request: agents_pb2.ChangeRequest) -> agents_pb2.ChangeResponse:
        """See AgentChanges.change. The change runs to its end even if the client disconnects."""
        container = self._find(request.id)
        phase = container.init.phase
        if request.verb != "look" and phase is not Phase.RUNNING:
            raise FailedPrecondition(f"agent {request.agent}: cannot be changed in a {phase.value} container")
        found = await run_shielded(
            container.life.change_agent(request.agent, request.verb, settled_s=request.settled_ms / 1000)
        )
        return agents_pb2.ChangeResponse(
            outcome=found.outcome,
            differs=found.differs,
            reason=found.reason,
            can_back_out=found.can_back_out,
            is_unit=found.is_unit,
        )
