"""Checks that an agent in a container is started from the files that the node has mounted there for it."""

import os
from collections.abc import Callable, Sequence

from runtime.agents import files
from runtime.agents.select import Selected
from runtime.config.model import Agent
from shim.task.thread import answered

PATIENCE_S = 10.0
"""The timeout, in seconds, of a look into the container, where a file system may not answer."""


class AgentFiles:
    """The mounted files of the agents `chosen` of one container."""

    def __init__(self, chosen: Sequence[Selected]) -> None:
        self._agents = {one.agent.name: one.agent for one in chosen if one.agent.mounts}
        self._known: dict[str, dict[str, files.Identity]] = {}
        self._root = -1
        self._init = 0

    async def created(self, init: int) -> None:
        """Remember the mounted files, once the OCI runtime has mounted them and before any code of the container runs.

        `init` is a host PID. Raises FailedPrecondition where the mounts are not at their targets, OSError.
        """
        if self._agents:
            self._init = init
            self._root = os.open(f"/proc/{init}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            await self._in_time(self._remember)

    def _remember(self, root: int) -> None:
        for name, agent in self._agents.items():
            self._known[name] = files.require_nodes(agent, root)

    async def require(self, name: str) -> None:
        """Raise FailedPrecondition where the mounts of agent `name` are no longer at their targets."""
        agent, known = self._agents.get(name), self._known.get(name)
        if agent is not None and known is not None:
            await self._in_time(lambda root: files.require_unchanged(agent, root, known))

    async def require_nodes(self, agent: Agent) -> None:
        """Raise FailedPrecondition where the container has not the files that the node now has for `agent`."""
        if agent.mounts:
            await self._in_time(lambda root: files.require_nodes(agent, root))

    async def _in_time(self, look: Callable[[int], object]) -> None:
        root = os.dup(self._root)  # after a timeout the look goes on, even after `close`

        def call() -> None:
            try:
                look(root)
            finally:
                os.close(root)

        await answered(call, what="agents' mounts: the container's files", patience_s=PATIENCE_S, of=self._init)

    def close(self) -> None:
        """Close the descriptor of the container's root. May be repeated."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)
