"""What of the node agents' mounts show in a container, and whether they still do.

The kernel renames no mount point, but a directory above one it does (rename(2)): root in a container can put a program
of its own where an agent's was. So where a mount leads is remembered before anything of the container has run, and
looked at again whenever the agent is started: below the root directory that was opened then, as a process changes its
own by chroot(2), and the OCI runtime's exec goes by the mount namespace's. Against who changes it and back while the
program is executed that is no defence, as there is none against who ends the agent.
"""

import os
from collections.abc import Callable, Mapping

from runtime.config.model import Agent
from runtime.errors import FailedPrecondition
from runtime.image import beneath

Identity = tuple[int, int]
"""st_dev and st_ino."""


def look(agent: Agent, root: int) -> dict[str, Identity]:
    """What is at the targets of the agent's mounts below `root`, a descriptor of the container's root directory.

    The container is hostile: only a path is looked up there, nothing is opened. Raises FailedPrecondition.
    """
    found: dict[str, Identity] = {}
    for mount in agent.mounts:
        try:
            with beneath.place(root, mount.target) as place:
                found[mount.target] = identity(os.fstat(place))
        except OSError as err:
            raise FailedPrecondition(f"{mount.target} in the container: {os.strerror(err.errno or 0).lower()}") from err
    return found


def require_unchanged(agent: Agent, root: int, known: Mapping[str, Identity]) -> None:
    """Raise FailedPrecondition where `look` does not find what it has found before, `known`."""
    for target, found in look(agent, root).items():
        if found != known[target]:
            raise FailedPrecondition(f"{target} in the container: found another file than the node's, which was moved")


def require_nodes(agent: Agent, root: int, *, stat: Callable[[str], os.stat_result] = os.stat) -> dict[str, Identity]:
    """What `look` finds. Raises FailedPrecondition where the container sees other files than the node has.

    A bind mount shows the file or directory that it was made of, also after that was renamed or replaced (mount(8)); a
    program that was put in its place would not be the one that is started. What the container has unmounted or covered
    itself is told likewise.
    """
    seen = look(agent, root)
    for mount in agent.mounts:
        if identity(stat(mount.source)) != seen[mount.target]:
            raise FailedPrecondition(
                f"{mount.source}: replaced since the container was made, which still sees the old one at"
                f" {mount.target}; bring the old one back, or change files inside a directory that is mounted"
            )
    return seen


def identity(found: os.stat_result) -> Identity:
    """Of a file, as long as it is there."""
    return found.st_dev, found.st_ino
