"""What a changed configuration means for an agent of a container that runs: what it can have without a new container.

A command, its variables, its user and its limit belong to processes, which may be started anew. Mounts belong to the
container: it keeps those that it was made with.
"""

import os
from collections.abc import Callable
from dataclasses import fields

from runtime.agents.select import Selected
from runtime.config.model import Agent
from runtime.errors import FailedPrecondition
from runtime.image import beneath

_KEYS = {field.name: field.name for field in fields(Agent)} | {"memory_bytes": "memory"}
_ELSEWHERE = ("name", "when")
"""Which agent it is, and whose."""
_CONTAINERS = ("mounts", "mandatory")


def differences(running: Agent, wanted: Agent) -> tuple[str, ...]:
    """The configuration's keys in which `wanted` differs from what runs, in the order of the model."""
    return tuple(
        key for name, key in _KEYS.items() if name not in _ELSEWHERE and getattr(running, name) != getattr(wanted, name)
    )


def require_possible(running: Selected, wanted: Selected, *, source: str) -> None:
    """Raise FailedPrecondition, naming the key, where the change needs a new container."""
    for key in differences(running.agent, wanted.agent):
        if key in _CONTAINERS:
            raise FailedPrecondition(
                f"{source}: {wanted.key}.{key}: changed since the container was made, which keeps what it was made"
                " with; a new pod has the change"
            )


def require_same_files(agent: Agent, root: str, *, stat: Callable[[str], os.stat_result] = os.stat) -> None:
    """Raise FailedPrecondition where the container below host directory `root` sees other files than the node has.

    A bind mount shows the file or directory that it was made of, also after that was renamed or replaced (mount(8)); a
    program that was put in its place would not be the one that is started. What the container has unmounted or covered
    itself is told likewise. The container is hostile: only a path is looked up there, nothing is opened.
    """
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for mount in agent.mounts:
            here = _identity(stat(mount.source))
            try:
                with beneath.place(fd, mount.target) as found:
                    there = _identity(os.fstat(found))
            except OSError as err:
                raise FailedPrecondition(
                    f"{mount.target} in the container: {os.strerror(err.errno or 0).lower()}"
                ) from err
            if here != there:
                raise FailedPrecondition(
                    f"{mount.source}: replaced since the container was made, which still sees the old one at"
                    f" {mount.target}; bring the old one back, or change files inside a directory that is mounted"
                )
    finally:
        os.close(fd)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
