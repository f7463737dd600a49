"""Which files of the node agents' mounts show in a container, and whether they still do.

The kernel refuses to rename a mount point but not a directory above one (rename(2)), so root in a container can put a
program of its own in an agent's place. Therefore the file at each mount's target is recorded before anything of the
container has run, and checked whenever the agent is started. The check starts at the root directory that was opened
then: a process can change its own root by chroot(2), and the OCI runtime's exec uses the mount namespace's root. This
is no defence against a change that is undone while the program is executed, just as there is none against a container
that ends the agent.
"""

import os
from collections.abc import Callable, Mapping

from runtime.config.model import Agent
from runtime.errors import FailedPrecondition
from runtime.image import beneath

Identity = tuple[int, int]
"""st_dev and st_ino of a file."""


def look(agent: Agent, root: int) -> dict[str, Identity]:
    """The files at the targets of the agent's mounts below `root`, a descriptor of the container's root directory.

    The container is hostile: paths are only looked up, and nothing is opened. Raises FailedPrecondition.
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
    """Raise FailedPrecondition where `look` no longer finds the files `known`."""
    for target, found in look(agent, root).items():
        if found != known[target]:
            raise FailedPrecondition(
                f"{target} in the container: found another file than the node's; the container moved or covered the"
                " mount"
            )


def require_nodes(agent: Agent, root: int, *, stat: Callable[[str], os.stat_result] = os.stat) -> dict[str, Identity]:
    """The result of `look`. Raises FailedPrecondition where the container sees other files than the node has.

    A bind mount shows the file or directory that it was made from, even after that was renamed or replaced (mount(8)),
    so a replacement on the node would not be the program that is started. Mounts that the container has unmounted or
    covered are found in the same way.
    """
    seen = look(agent, root)
    for mount in agent.mounts:
        if identity(stat(mount.source)) != seen[mount.target]:
            raise FailedPrecondition(
                f"{mount.source}: replaced since the container was made, which still sees the old one at"
                f" {mount.target}; restore the old one, or start a new pod; later, change only files inside a mounted"
                " directory"
            )
    return seen


def identity(found: os.stat_result) -> Identity:
    """The identity of a file for as long as the file exists."""
    return found.st_dev, found.st_ino
