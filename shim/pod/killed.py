"""`delete` after a pod server that was killed: of the container it is called for, and of a sandbox's members.

containerd calls it for each container whose `start` it has run, so for members only if it has been started again since
(`runtime.members`). Each of those is seen to by a process of its own, which goes on when containerd kills the `delete`,
and which tells containerd of its end as that does for a task whose own shim has died (containerd,
core/runtime/v2/shim.go, cleanupAfterDeadShim).
"""

import os
import sys
import time

from shim.contract.flags import Flags
from shim.pod import cleanup

if False:  # typing.TYPE_CHECKING, without the import
    from collections.abc import Callable  # noqa: TC003 (this is such a block)
    from typing import NoReturn

PATIENCE_S = 4.3
"""For the members, of the five seconds that containerd gives the whole command."""

AGAIN_S = 0.05
"""Between attempts before the answer."""


def clean_up(flags: Flags, *, channel: int = -1) -> "tuple[bytes, cleanup.Left | None, Members]":
    """As `cleanup.clean_up`, which see, and see to the members. `channel` is a descriptor that their processes close.

    What they say on standard error is said on this process's.
    """
    until = time.monotonic() + PATIENCE_S
    ending = Members(flags, channel)
    ending.begin()
    answer, left = cleanup.clean_up(flags)
    ending.wait(until)
    return answer, left, ending


def check() -> None:
    """Leave processes behind that end the members for whom nobody is called any more. Never raises, never waits.

    Their pod server was killed, and containerd has no bundle of the sandbox: that had ended before, or the `delete` for
    it was killed with all that it had begun.
    """
    from runtime import members
    from shim.installed.detached import detach

    try:
        for namespace, sandbox in members.sandboxes():
            for member in members.of_sandbox(namespace, sandbox):
                path = members.path_of(namespace, sandbox, member)
                if not members.is_served(path) and members.is_given_up(path):
                    flags = _flags_of(namespace, sandbox, member)
                    detach(lambda flags=flags: _clean_up_one(flags), keep=())  # type: ignore[misc]
    except OSError as err:
        sys.stderr.write(f"members that nobody is called for: {err}\n")


class Members:
    """The members of a sandbox that are being ended, each by a process; `flags` are the sandbox's."""

    def __init__(self, flags: Flags, channel: int) -> None:
        self._flags = flags
        self._channel = channel
        self._ended = -1

    def begin(self) -> bool:
        """Begin to end those that are left and that no pod server serves. Whether there are any. Raises nothing."""
        from runtime import members

        namespace, sandbox = self._flags.namespace, self._flags.id
        try:
            paths = {one: members.path_of(namespace, sandbox, one) for one in members.of_sandbox(namespace, sandbox)}
            left = [one for one, path in paths.items() if not members.is_served(path)]
            if left:
                self._begin_each(left)
        except OSError as err:  # the rest of the `delete` does not depend on it
            sys.stderr.write(f"members of {sandbox}: {err}\n")
        return self._ended >= 0

    def _begin_each(self, left: list[str]) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            for member in left:
                sys.stderr.flush()
                if os.fork() == 0:
                    _end(_flags_of(self._flags.namespace, self._flags.id, member), writer, self._channel)
                self._ended = reader
        finally:
            os.close(writer)
            if self._ended < 0:
                os.close(reader)

    def wait(self, until: float) -> None:
        """Until all have ended, but no longer than to `until`. One whose process was killed is begun anew."""
        while self._ended >= 0 and self._is_over(until):
            if time.monotonic() > until or not self.begin():
                return
            time.sleep(AGAIN_S)

    def go_on(self) -> None:
        """After the answer: until all have ended, but not for ever. The next start comes back to the rest (`check`)."""
        for pause in cleanup.SWEEPS_S:
            if self._ended >= 0:
                self._is_over(time.monotonic() + 2 * pause)
            elif not self.begin():
                return
            time.sleep(pause)

    def _is_over(self, until: float) -> bool:
        """Whether nobody is at it any more, `until` at the latest."""
        from runtime.linux import readable

        while readable.within(self._ended, until - time.monotonic()):
            said = os.read(self._ended, 4096)
            if not said:
                os.close(self._ended)
                self._ended = -1
                return True
            sys.stderr.write(said.decode(errors="replace"))
        return False


def _flags_of(namespace: str, sandbox: str, member: str) -> Flags:
    from runtime import members

    flags = Flags()
    flags.namespace, flags.id = namespace, member
    flags.bundle = members.path_of(namespace, sandbox, member)
    return flags


def _end(flags: Flags, writer: int, channel: int) -> "NoReturn":
    """Clean up after one member in this process, which was just forked; `writer` is open as long as that takes."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):  # containerd waits until nobody has its pipes
            os.dup2(null, fd)
        os.dup2(writer, 2)
        os.close(writer)
        if channel >= 0:
            os.close(channel)
        _clean_up_one(flags, then=lambda: os.dup2(null, 2))
    except Exception as err:
        sys.stderr.write(f"container {flags.id}: {err}\n")
        sys.stderr.flush()
    finally:  # nothing may unwind into the parent's code below fork()
        os._exit(0)


def _clean_up_one(flags: Flags, then: "Callable[[], object]" = lambda: None) -> None:
    """Clean up after one member, call `then`, and tell containerd."""
    pid = cleanup.pid_of(flags.bundle)
    _, left = cleanup.clean_up(flags)
    sys.stderr.flush()
    then()
    if left is not None:
        try:
            _tell(flags, pid)
        finally:
            cleanup.sweep(left, flags.id)


def _tell(flags: Flags, pid: int) -> None:
    """Publish the end of the container's task."""
    import asyncio

    from protos.gen import events_pb2
    from shim.task.report.publisher import Publisher

    async def publish() -> None:
        publisher = Publisher(os.environ.get("TTRPC_ADDRESS", ""), flags.namespace)
        told = {"container_id": flags.id, "pid": pid, "exit_status": cleanup.KILLED}
        for event in (events_pb2.TaskExit(id=flags.id, **told), events_pb2.TaskDelete(**told)):
            event.exited_at.GetCurrentTime()
            publisher.publish(event)
        await publisher.close(PATIENCE_S)

    asyncio.run(publish())
