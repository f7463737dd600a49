"""Sees that an agent which is started in a container is of the files that the node has mounted there for it."""

import asyncio
from collections.abc import Callable, Sequence

from runtime.agents import files
from runtime.agents.select import Selected
from runtime.errors import FailedPrecondition
from shim.task.thread import in_thread

PATIENCE_S = 10.0
"""For a look into the container, where a file system may not answer."""


class AgentFiles:
    """Of the agents of one container, `chosen`."""

    def __init__(self, chosen: Sequence[Selected]) -> None:
        self._agents = {one.agent.name: one.agent for one in chosen if one.agent.mounts}
        self._known: dict[str, dict[str, files.Identity]] = {}
        self._root = ""

    async def created(self, init: int) -> None:
        """The OCI runtime has made the mounts, in the container of host process `init`, and nothing has run in it.

        Raises FailedPrecondition where they are not at their targets.
        """
        self._root = f"/proc/{init}/root"
        if self._agents:
            await _in_time(self._remember)

    def _remember(self) -> None:
        for name, agent in self._agents.items():
            files.require_nodes(agent, self._root)
            self._known[name] = files.look(agent, self._root)

    async def require(self, name: str) -> None:
        """Raise FailedPrecondition where what is mounted for agent `name` is not at its place any more."""
        agent, known = self._agents.get(name), self._known.get(name)
        if agent is not None and known is not None:
            await _in_time(lambda: files.require_unchanged(agent, self._root, known))


async def _in_time(look: Callable[[], None]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await in_thread(look)
    except TimeoutError:
        raise FailedPrecondition(f"agents' mounts: the container's files did not answer for {PATIENCE_S:g} s") from None
