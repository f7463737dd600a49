"""What a container's init and its exec processes have in common: a PID, a phase, streams, and one exit."""

import asyncio

from protos.gen import events_pb2, task_pb2
from runtime.errors import NotFound
from shim.task.container import phase
from shim.task.container.phase import Phase
from shim.task.reaper import Exit
from shim.task.stdio.stdio import Stdio, StdioPaths

_NEVER_S = -62_135_596_800
"""Go's zero time, the beginning of year 1. Clients test IsZero(); a timestamp that is left out reads as 1970."""

Ended = (
    events_pb2.TaskExit
    | events_pb2.TaskDelete
    | task_pb2.StateResponse
    | task_pb2.WaitResponse
    | task_pb2.DeleteResponse
)


class Process:
    """One process of a container. `exec_id` is "" for init. `pid` stays set after the end, as State reports it."""

    def __init__(self, exec_id: str, paths: StdioPaths, stdio: Stdio | None = None) -> None:
        self.exec_id = exec_id
        self.paths = paths
        self.stdio = stdio
        self.pid = 0
        self.phase = Phase.CREATED
        self.exit: Exit | None = None
        self._released = asyncio.Event()
        self._size: tuple[int, int] | None = None
        self._stdin_closed = False

    def move(self, to: Phase) -> None:
        """Enter a phase. Raises FailedPrecondition where the table does not allow it."""
        self.phase = phase.move(self.phase, to)

    def back(self, to: Phase) -> None:
        """Return to `to` after a failure, unless the process has ended meanwhile."""
        if self.phase is not Phase.STOPPED:
            self.move(to)

    def ended(self, exit: Exit) -> None:
        """Note how the process ended. Waits return only after `release_waits`, when the exit event is queued."""
        self.exit = exit
        if self.stdio is not None:
            self.stdio.process_ended()

    def finish(self, exit: Exit) -> None:
        """Note the end and enter STOPPED, since nothing else has to come before that."""
        self.ended(exit)
        self.move(Phase.STOPPED)

    def release_waits(self) -> None:
        """Let every `wait` return."""
        self._released.set()

    def rearm(self) -> None:
        """The start is tried again: a `wait` from now on waits for that attempt."""
        self._released.clear()

    async def wait(self) -> Exit | None:
        """Return how the process ended, or None if it could not be started and so never ends."""
        await self._released.wait()
        return self.exit

    @property
    def waits_released(self) -> bool:
        """Whether `release_waits` was called."""
        return self._released.is_set()

    def require_alive(self) -> None:
        """Raise NotFound, in the words that containerd matches, if the process has ended."""
        if self.exit is not None:
            raise NotFound("process already finished")

    def resize(self, *, width: int, height: int) -> None:
        """Set the terminal's size, now or when it is made. No effect without one. Raises FailedPrecondition."""
        if self.exit is not None:
            raise phase.refused("resize", self.phase)
        self._size = (width, height)
        if self.stdio is not None:
            self.stdio.resize(width=width, height=height)

    def close_stdin(self) -> None:
        """The client sends no more input; the process need not have been made yet. May be repeated."""
        self._stdin_closed = True
        if self.stdio is not None:
            self.stdio.close_stdin()

    def connect(self, stdio: Stdio) -> None:
        """Take the streams of the process about to be made; apply a size and a CloseIO that came before."""
        self.stdio = stdio
        if self._size is not None:
            stdio.resize(width=self._size[0], height=self._size[1])
        if self._stdin_closed:
            stdio.close_stdin()

    async def close_stdio(self) -> None:
        """Close the streams. May be repeated."""
        if self.stdio is not None:
            await self.stdio.close()


def set_exit_fields(message: Ended, exit: Exit | None) -> None:
    """Set `exit_status` and `exited_at` of `message`; `exit` None: the process has not ended."""
    if exit is None:
        message.exited_at.seconds = _NEVER_S
    else:
        message.exit_status = exit.status
        message.exited_at.FromNanoseconds(exit.at)


def exit_event(container_id: str, process_id: str, exit: Exit) -> events_pb2.TaskExit:
    """The TaskExit event of a process; `process_id` is the container's id for init, else the exec's id."""
    event = events_pb2.TaskExit(container_id=container_id, id=process_id, pid=exit.pid)
    set_exit_fields(event, exit)
    return event
