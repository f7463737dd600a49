"""What a rich container adds at the points of its life: callbacks around create, start and exit."""

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from runtime.cgroup import Cgroup
from runtime.errors import NotFound
from shim.task.reaper import Exit
from shim.task.rich.agent_changes import Changed


class Lifecycle(Protocol):
    """Called by `create` and `Container`, in this order. What a method raises fails the request that led to it."""

    def init_console(self) -> str:
        """The path for `--console-socket` where init has a console of its own and none of the client's streams."""

    async def created(self, init: int, cgroup: Cgroup | None) -> None:
        """The OCI runtime has made the container; host process `init` waits to be started. Part of Create."""

    async def before_start(self) -> None:
        """Start was asked for; init has not been started."""

    async def ready(self) -> None:
        """Init was started; return when the application runs."""

    def started(self) -> None:
        """Start has succeeded, and its event is on its way."""

    def start_failed(self) -> None:
        """Start has failed; the container is left created, or init has ended."""

    def updating(self) -> AbstractAsyncContextManager[None]:
        """Entered before the OCI runtime changes the container's limits, left after. Raises OSError, RuntimeFailed."""

    def paused(self, now: bool) -> None:
        """The container is about to be frozen, or has been thawed."""

    async def none_starting(self) -> None:
        """Return once nothing is being started beside the application; `paused` has kept more from beginning."""

    async def change_agent(self, name: str, verb: str, *, settled_s: float) -> Changed:
        """See `shim.task.rich.agent_changes.AgentChanges.change`."""

    def signal(self, number: int) -> int:
        """A client's signal for the task, other than KILL. Return what PID 1 is to get, 0 where all is done."""

    def ended(self, exit: Exit) -> Exit:
        """Init has ended, and with it all processes of its pid namespace. Return how the task ended."""

    async def after_end(self, exit: Exit, *, oom_killed: bool) -> None:
        """Nothing of the container runs; its root file system is still there. The exit is reported after this.

        Raises nothing.
        """

    def check_checkpoint(self) -> None:
        """Raise Unsupported where the container cannot be checkpointed."""

    async def close(self) -> None:
        """Let go of everything, at whatever point it stands. May be repeated."""


class PlainLifecycle:
    """The callbacks of a plain container: nothing is added to what the OCI runtime does."""

    def init_console(self) -> str:
        """Init has the client's streams."""
        return ""

    async def created(self, init: int, cgroup: Cgroup | None) -> None:
        """There is nothing to prepare in it."""

    async def before_start(self) -> None:
        """It has no prestart hooks."""

    async def ready(self) -> None:
        """Init is the application."""

    def started(self) -> None:
        """Nothing waits for it."""

    def start_failed(self) -> None:
        """Nothing was begun before it."""

    def updating(self) -> AbstractAsyncContextManager[None]:
        """Its limits are the OCI runtime's alone."""
        return nullcontext()

    def paused(self, now: bool) -> None:
        """Nothing runs beside it that could wait."""

    async def none_starting(self) -> None:
        """Nothing is."""

    async def change_agent(self, name: str, verb: str, *, settled_s: float) -> Changed:
        """It has none."""
        raise NotFound(f"agent {name}: the container is a plain one")

    def signal(self, number: int) -> int:
        """PID 1 gets it."""
        return number

    def ended(self, exit: Exit) -> Exit:
        """Init's end is the task's."""
        return exit

    async def after_end(self, exit: Exit, *, oom_killed: bool) -> None:
        """It has no poststop hooks."""

    def check_checkpoint(self) -> None:
        """The OCI runtime decides."""

    async def close(self) -> None:
        """It holds nothing."""
