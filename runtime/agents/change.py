"""What a changed configuration means for an agent of a running container: which changes need no new container.

A command, its variables, its user and its limit belong to processes, which can be started again. Mounts belong to the
container, which keeps those that it was made with.
"""

from dataclasses import fields

from runtime.agents.select import Selected
from runtime.config.model import Agent
from runtime.errors import FailedPrecondition

_KEYS = {field.name: field.name for field in fields(Agent)} | {"memory_bytes": "memory"}
_ELSEWHERE = ("name", "when")
"""The keys that say which agent it is, and for which containers."""
_CONTAINERS = ("mounts", "mandatory")


def differences(running: Agent, wanted: Agent) -> tuple[str, ...]:
    """The configuration keys in which `wanted` differs from `running`, in the order of the model."""
    return tuple(
        key for name, key in _KEYS.items() if name not in _ELSEWHERE and getattr(running, name) != getattr(wanted, name)
    )


def require_possible(running: Selected, wanted: Selected, *, source: str, is_unit: bool = False) -> None:
    """Raise FailedPrecondition, naming the key, where the change needs a new container.

    `is_unit`: the agent runs as a unit of systemd, which no agent with a memory limit does.
    """
    for key in differences(running.agent, wanted.agent):
        if key in _CONTAINERS or (is_unit and key == "memory"):
            raise FailedPrecondition(
                f"{source}: {wanted.key}.{key}: changed since the container's Create; a running container keeps the"
                " old value, and a new pod gets the new one"
            )
