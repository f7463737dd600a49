"""`delete` after a pod server that was killed: of the container it is called for, and of a sandbox's members.

containerd calls it for each container whose `start` it has run, so not for members (`runtime.members`). Each of those
is seen to by a process of its own, which goes on when containerd kills the `delete`, and which tells containerd of its
end as that does for a task whose own shim has died (containerd, core/runtime/v2/shim.go, cleanupAfterDeadShim).
"""

import os
import sys
import time

from shim.contract import address
from shim.contract.flags import Flags
from shim.pod import cleanup

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn

PATIENCE_S = 4.3
"""For the members, of the five seconds that containerd gives the whole command."""

ATTEMPTS = 3
"""Where a process that was to end one is itself killed, for want of memory say: nobody comes back to this."""


def clean_up(flags: Flags, *, channel: int = -1) -> "tuple[bytes, cleanup.Left | None]":
    """As `cleanup.clean_up`, which see, and see to the members. `channel` is a descriptor that these let go."""
    from runtime.linux import readable

    until = time.monotonic() + PATIENCE_S
    ended = _end_members(flags, channel)
    found = cleanup.clean_up(flags)
    for _ in range(ATTEMPTS):
        if ended < 0 or not readable.within(ended, until - time.monotonic()):
            break
        os.close(ended)
        ended = _end_members(flags, channel)
    if ended >= 0:
        os.close(ended)
    return found


def _end_members(flags: Flags, channel: int) -> int:
    """Begin to end them; the reading end of a pipe that ends when nobody is at it, or -1 where there is nothing to do.

    Where the pod's server lives they are its own.
    """
    from runtime import members

    left = members.of_sandbox(flags.namespace, flags.id)
    if not left or address.answers(cleanup.socket_of(flags, flags.bundle or os.getcwd())):
        return -1
    reader, writer = os.pipe2(os.O_CLOEXEC)
    for member in left:
        if os.fork() == 0:
            if channel >= 0:
                os.close(channel)
            _end(flags, member, writer)
    os.close(writer)
    return reader


def _end(sandbox: Flags, member: str, writer: int) -> "NoReturn":
    """Clean up after one member in this process, which was just forked."""
    from runtime import members

    try:
        flags = Flags()
        flags.namespace, flags.id, flags.address = sandbox.namespace, member, sandbox.address
        flags.bundle = members.path_of(sandbox.namespace, sandbox.id, member)
        pid = cleanup.pid_of(flags.bundle)
        _, left = cleanup.clean_up(flags)
        os.close(writer)
        if left is not None:
            _tell(flags, pid)
            cleanup.sweep(left, member)
    except Exception as err:  # nobody else hears of it
        sys.stderr.write(f"container {member}: {err}\n")
        sys.stderr.flush()
    finally:  # nothing may unwind into the parent's code below fork()
        os._exit(0)


def _tell(flags: Flags, pid: int) -> None:
    """Publish the end of the container's task."""
    import asyncio

    from protos.gen import events_pb2
    from shim.task.publisher import Publisher

    async def publish() -> None:
        publisher = Publisher(os.environ.get("TTRPC_ADDRESS", ""), flags.namespace)
        told = {"container_id": flags.id, "pid": pid, "exit_status": cleanup.KILLED}
        for event in (events_pb2.TaskExit(id=flags.id, **told), events_pb2.TaskDelete(**told)):
            event.exited_at.GetCurrentTime()
            publisher.publish(event)
        await publisher.close(PATIENCE_S)

    asyncio.run(publish())
