"""The bundle that a container is made in: containerd's, or the shim's own where containerd's is removed too early.

`runtime.members` says when that is.
"""

import logging
from contextlib import AsyncExitStack

from runtime import members
from runtime.bundle import Bundle
from shim.contract import identifiers

_log = logging.getLogger(__name__)


def own_bundle(given: Bundle, undo: AsyncExitStack, *, namespace: str, container_id: str) -> Bundle:
    """`given` itself, or for a member of a sandbox a new bundle of the shim's; `undo` then removes it.

    Raises InvalidArgument, OSError.
    """
    sandbox = members.sandbox_of(given.path)
    if not sandbox:
        return given
    path = members.path_of(namespace, identifiers.check(f"{given.path}/{members.SANDBOX_FILE}", sandbox), container_id)
    members.make(path, given.path)

    def remove() -> None:
        try:
            members.remove(path)
        except OSError as err:  # the sandbox's `delete` will remove it
            _log.warning("container %s: after a failed create: %s", container_id, err)

    undo.callback(remove)
    return Bundle(path, given=given.path)
