"""Which agents a container has, each with its user from the image, and what is refused at Create."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from runtime.config.model import Agent
from runtime.errors import InvalidArgument
from runtime.image.passwd import User

ROOT = User(0, 0, (), "root", "/root")
"""Whom an agent runs as that names no user."""


class Selected(NamedTuple):
    """An agent of a container. `key` is its name in errors, `user` is whom it runs as."""

    agent: Agent
    key: str
    user: User


def require_memory(agent: Agent, key: str, *, source: str, has_v2_memory: bool) -> None:
    """Raise InvalidArgument where the agent has a memory limit and this node cannot set one."""
    if agent.memory_bytes is not None and not has_v2_memory:
        raise InvalidArgument(
            f"{source}: {key}.memory: found {agent.memory_bytes}, allowed only on a node whose memory controller is on"
            " cgroup v2; remove the key, then only the pod's limit applies"
        )


def select(
    agents: Sequence[Agent],
    selects: Callable[[Agent], bool],
    *,
    resolve: Callable[[str], User],
    source: str,
    has_v2_memory: bool,
) -> tuple[Selected, ...]:
    """The agents for which `selects(agent)` is true, in the order of the configuration.

    `resolve(user)` finds a user in the image (`runtime.image.passwd.resolve`), `source` is the configuration's name in
    errors, `has_v2_memory` the result of `runtime.agents.cgroup.has_v2_memory`. Raises InvalidArgument naming the key.
    """
    selected = []
    for index, agent in enumerate(agents):
        if not selects(agent):
            continue
        key = f"agents[{index}]"
        require_memory(agent, key, source=source, has_v2_memory=has_v2_memory)
        try:
            user = ROOT if agent.user is None else resolve(agent.user)
        except InvalidArgument as err:
            raise InvalidArgument(f"{source}: {key}: {err}") from err
        selected.append(Selected(agent, key, user))
    return tuple(selected)


def targets(agents: Iterable[Agent]) -> tuple[str, ...]:
    """Every target of agents' mounts in the container, to be resolved in the image for `mounts.steps`."""
    return tuple(dict.fromkeys(mount.target for agent in agents for mount in agent.mounts))
