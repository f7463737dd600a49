"""The bundle that a container is made in: containerd's, or the shim's own where containerd's is removed too early.

`runtime.members` says when that is.
"""

import logging
from contextlib import AsyncExitStack

from runtime import members
from shim.contract import identifiers

_log = logging.getLogger(__name__)


def own_bundle(given: str, undo: AsyncExitStack, *, namespace: str, container_id: str) -> str:
    """`given` itself, or for a member of a sandbox a new bundle of the shim's; `undo` then removes it.

    Raises InvalidArgument, OSError.
    """
    sandbox = members.sandbox_of(given)
    if not sandbox:
        return given
    path = members.path_of(namespace, identifiers.check(f"{given}/{members.SANDBOX_FILE}", sandbox), container_id)
    members.make(path, given)

    def remove() -> None:
        try:
            members.remove(path)
        except OSError as err:  # the sandbox's `delete` will remove it
            _log.warning("container %s: after a failed create: %s", container_id, err)

    undo.callback(remove)
    return path
