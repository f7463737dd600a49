"""Looks up a command that lies below a mount of the pod, once the container's mounts are made."""

from typing import Any

from runtime.errors import InvalidArgument
from runtime.image.image import Rootfs, command_of
from shim.task.thread import answered

PATIENCE_S = 10.0
"""The volume may be on a file system that does not answer."""


async def require(spec: dict[str, Any], init: int) -> None:
    """Raise InvalidArgument, as for a command in the image, where the command of `spec` is missing or not executable.

    `init` is the host PID of the container's init, which waits to be started. dumb-init would end with 2. Raises
    FailedPrecondition where the volume does not answer.
    """

    def look() -> str | None:
        with Rootfs.open(f"/proc/{init}/root") as root:
            return command_of(root, spec).problem

    if problem := await answered(look, what="the volume of the command", patience_s=PATIENCE_S, of=init):
        raise InvalidArgument(f"start process: {problem}")
