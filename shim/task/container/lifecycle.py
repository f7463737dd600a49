"""The callbacks around create, start and exit by which a rich container adds to a plain one."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from runtime.cgroup import Cgroup
from runtime.errors import NotFound
from shim.task.reaper import Exit
from shim.task.rich.agent_changes import Changed


class Lifecycle(Protocol):
    """Called by `create` and `Container`, in this order. An exception of a method fails the request that led to it."""

    def init_console(self) -> str:
        """The path for `--console-socket` if init has a private console; "" if init has the client's streams."""

    async def created(self, init: int, cgroup: Cgroup | None) -> None:
        """The OCI runtime has made the container; host process `init` waits to be started. Part of Create."""

    async def before_start(self) -> None:
        """A Start request has come; init has not been started."""

    async def ready(self) -> None:
        """Init has been started; return when the application runs."""

    def started(self) -> None:
        """Start has succeeded, and its event is queued."""

    def start_failed(self) -> None:
        """Start has failed; the container is still created, or init has ended."""

    def updating(self) -> AbstractAsyncContextManager[None]:
        """A context around the OCI runtime's change of the container's limits. Raises OSError, RuntimeFailed."""

    def set_paused(self, now: bool) -> None:
        """The container is about to be frozen (`now` true), or has been thawed."""

    async def wait_for_starts(self) -> None:
        """Return once nothing is being started beside the application; since `set_paused` nothing new begins."""

    async def change_agent(self, name: str, verb: str, *, settled_s: float) -> Changed:
        """See `shim.task.rich.agent_changes.AgentChanges.change`."""

    def signal(self, number: int) -> int:
        """Handle a client's signal other than KILL. Return the signal to send to PID 1, or 0 for none."""

    def ended(self, exit: Exit) -> Exit:
        """Init has ended, and all processes of its PID namespace with it. Return how the task ended."""

    async def after_end(self, exit: Exit, *, oom_killed: bool) -> None:
        """All processes are gone; the root file system is still mounted. The exit is reported after this.

        Raises nothing.
        """

    def check_checkpoint(self) -> None:
        """Raise Unsupported where the container cannot be checkpointed."""

    async def close(self) -> None:
        """Release everything, in whatever phase. May be repeated."""


class PlainLifecycle:
    """The callbacks of a plain container: nothing is added to what the OCI runtime does."""

    def init_console(self) -> str:
        """Init has the client's streams."""
        return ""

    async def created(self, init: int, cgroup: Cgroup | None) -> None:
        """Nothing to prepare."""

    async def before_start(self) -> None:
        """No prestart hooks."""

    async def ready(self) -> None:
        """Init is the application."""

    def started(self) -> None:
        """Nothing to start beside it."""

    def start_failed(self) -> None:
        """Nothing to undo."""

    def updating(self) -> AbstractAsyncContextManager[None]:
        """Only the OCI runtime sets its limits."""
        return nullcontext()

    def set_paused(self, now: bool) -> None:
        """Nothing beside it to hold back."""

    async def wait_for_starts(self) -> None:
        """Nothing is ever started beside it."""

    async def change_agent(self, name: str, verb: str, *, settled_s: float) -> Changed:
        """Raises NotFound: a plain container has no agents."""
        raise NotFound(f"agent {name}: the container is a plain one")

    def signal(self, number: int) -> int:
        """PID 1 gets the signal."""
        return number

    def ended(self, exit: Exit) -> Exit:
        """The task ends as init ended."""
        return exit

    async def after_end(self, exit: Exit, *, oom_killed: bool) -> None:
        """No poststop hooks."""

    def check_checkpoint(self) -> None:
        """The OCI runtime decides."""

    async def close(self) -> None:
        """Nothing to release."""
