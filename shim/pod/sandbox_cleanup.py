"""`delete` after a pod server was killed: cleans up the container that it is called for, and a sandbox's members.

containerd runs `delete` for each container whose `start` it has run; for members only if containerd was restarted since
(`runtime.members`). A process of its own cleans up after each member. It goes on when containerd kills the `delete`,
and publishes the member's exit as containerd does for a task whose shim has died (containerd,
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
"""How long to wait for the members, out of the five seconds that containerd gives the whole command."""

AGAIN_S = 0.05
"""The pause between attempts before the answer."""


def clean_up(flags: Flags, *, channel: int = -1) -> "tuple[bytes, cleanup.BundleState | None, MemberCleanup]":
    """Do `cleanup.clean_up`, which see, and clean up the members. Their processes close the descriptor `channel`.

    What these processes write to standard error is written to this process's.
    """
    until = time.monotonic() + PATIENCE_S
    members = MemberCleanup(flags, channel)
    members.begin()
    answer, left = cleanup.clean_up(flags)
    members.wait(until)
    return answer, left, members


def start_member_cleanup() -> None:
    """Leave processes behind that clean up members for which no `delete` will come. Never raises, never waits.

    Their pod server was killed, and containerd has no bundle of their sandbox: the sandbox had ended before, or its
    `delete` was killed with all processes that it had begun.
    """
    from runtime import members
    from shim.installed.detached import detach

    try:
        for namespace, sandbox in members.sandboxes():
            for member in members.list_members(namespace, sandbox):
                path = members.path_of(namespace, sandbox, member)
                if not members.has_live_server(path) and members.is_abandoned(path):
                    flags = _flags_of(namespace, sandbox, member)
                    detach(lambda flags=flags: _clean_up_one(flags), keep=())  # type: ignore[misc]
    except OSError as err:
        from runtime.errors import text_of

        sys.stderr.write(f"containers left by a dead pod server: {text_of(err)}\n")


class MemberCleanup:
    """Cleans up the members of a sandbox, each in a process of its own; `flags` are the sandbox's.

    The processes hold one pipe as their standard error. `_said` is its other end, -1 while no process runs.
    """

    def __init__(self, flags: Flags, channel: int) -> None:
        self._flags = flags
        self._channel = channel
        self._said = -1

    def begin(self) -> bool:
        """Begin to clean up the members that no pod server serves. Return whether there are any. Raises nothing."""
        from runtime import members

        namespace, sandbox = self._flags.namespace, self._flags.id
        try:
            paths = {one: members.path_of(namespace, sandbox, one) for one in members.list_members(namespace, sandbox)}
            left = [one for one, path in paths.items() if not members.has_live_server(path)]
            if left:
                self._begin_each(left)
        except OSError as err:  # the rest of `delete` does not depend on the members
            from runtime.errors import text_of

            sys.stderr.write(f"containers left of the pod with sandbox {sandbox}: {text_of(err)}\n")
        return self._said >= 0

    def _begin_each(self, left: list[str]) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            for member in left:
                sys.stderr.flush()
                if os.fork() == 0:
                    _clean_up_in_child(_flags_of(self._flags.namespace, self._flags.id, member), writer, self._channel)
                self._said = reader
        finally:
            os.close(writer)
            if self._said < 0:
                os.close(reader)

    def wait(self, until: float) -> None:
        """Wait until all members are cleaned up, at most until `until`. If a process is killed, begin another one."""
        while self._said >= 0 and self._is_over(until):
            if time.monotonic() > until or not self.begin():
                return
            time.sleep(AGAIN_S)

    def go_on(self) -> None:
        """After the answer: wait on and retry, but not forever.

        A later `start` cleans up the rest (`start_member_cleanup`).
        """
        for pause in cleanup.SWEEPS_S:
            if self._said >= 0:
                self._is_over(time.monotonic() + 2 * pause)
            elif not self.begin():
                return
            time.sleep(pause)

    def _is_over(self, until: float) -> bool:
        """Whether all processes have ended; waits for that, at most until `until`. Copies their standard error."""
        from runtime.linux import readable

        while readable.within(self._said, until - time.monotonic()):
            text = os.read(self._said, 4096)
            if not text:
                os.close(self._said)
                self._said = -1
                return True
            sys.stderr.write(text.decode(errors="replace"))
        return False


def _flags_of(namespace: str, sandbox: str, member: str) -> Flags:
    from runtime import members

    flags = Flags()
    flags.namespace, flags.id = namespace, member
    flags.bundle = members.path_of(namespace, sandbox, member)
    return flags


def _clean_up_in_child(flags: Flags, writer: int, channel: int) -> "NoReturn":
    """Clean up after one member in this process, which was just forked; `writer` stays open until that is done."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):  # containerd waits until its pipes are closed
            os.dup2(null, fd)
        os.dup2(writer, 2)
        os.close(writer)
        if channel >= 0:
            os.close(channel)
        _clean_up_one(flags, cleaned_up=lambda: os.dup2(null, 2))
    except Exception as err:
        from runtime.errors import text_of

        sys.stderr.write(f"container {flags.id}: {text_of(err)}\n")
        sys.stderr.flush()
    finally:  # nothing may unwind into the parent's code below fork()
        os._exit(0)


def _clean_up_one(flags: Flags, cleaned_up: "Callable[[], object]" = lambda: None) -> None:
    """Clean up after one member, call `cleaned_up`, and publish the exit to containerd."""
    pid = cleanup.pid_of(flags.bundle)
    _, left = cleanup.clean_up(flags)
    sys.stderr.flush()
    cleaned_up()
    if left is not None:
        try:
            _publish_exit(flags, pid)
        finally:
            cleanup.retry_cgroup_removal(left, flags.id)


def _publish_exit(flags: Flags, pid: int) -> None:
    """Publish TaskExit and TaskDelete of the container's task."""
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
