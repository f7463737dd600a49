"""What a container's init and its exec processes have in common: a pid, a phase, streams, and one end."""

import asyncio

from protos.gen import events_pb2, task_pb2
from runtime.errors import NotFound
from shim.task.container import phase
from shim.task.container.phase import Phase
from shim.task.reaper import Exit
from shim.task.stdio.stdio import Stdio, StdioPaths

_NEVER_S = -62_135_596_800
"""Go's zero time, the beginning of year 1: clients ask for IsZero(), and one that is not there reads as 1970."""

Ended = (
    events_pb2.TaskExit
    | events_pb2.TaskDelete
    | task_pb2.StateResponse
    | task_pb2.WaitResponse
    | task_pb2.DeleteResponse
)


class Process:
    """One process of a container. `exec_id` is "" for init. The pid stays after the end, as State reports it."""

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
        """Note how the process ended. Waiters are not told before `release`, when the event is on its way."""
        self.exit = exit
        if self.stdio is not None:
            self.stdio.process_ended()

    def finish(self, exit: Exit) -> None:
        """The process has ended, and nothing else is to come before that shows."""
        self.ended(exit)
        self.move(Phase.STOPPED)

    def release(self) -> None:
        """Let everybody go who waits."""
        self._released.set()

    def rearm(self) -> None:
        """It is tried again: who waits from now on waits for that."""
        self._released.clear()

    async def wait(self) -> Exit | None:
        """Return how the process ended, or None where it could not be started: nothing will ever end then."""
        await self._released.wait()
        return self.exit

    @property
    def released(self) -> bool:
        """Whether waiters were let go."""
        return self._released.is_set()

    def require_alive(self) -> None:
        """Raise NotFound, in the words that containerd knows, where there is nothing left to signal."""
        if self.exit is not None:
            raise NotFound("process already finished")

    def resize(self, *, width: int, height: int) -> None:
        """Set the terminal's size, now or when it is made; without one, nothing. Raises FailedPrecondition."""
        if self.exit is not None:
            raise phase.refused("resize", self.phase)
        self._size = (width, height)
        if self.stdio is not None:
            self.stdio.resize(width=width, height=height)

    def close_stdin(self) -> None:
        """The client will send no more, whether or not the process has been made yet. May be repeated."""
        self._stdin_closed = True
        if self.stdio is not None:
            self.stdio.close_stdin()

    def connect(self, stdio: Stdio) -> None:
        """Take the streams that the process is about to be made with, and what was asked of them before."""
        self.stdio = stdio
        if self._size is not None:
            stdio.resize(width=self._size[0], height=self._size[1])
        if self._stdin_closed:
            stdio.close_stdin()

    async def close_stdio(self) -> None:
        """Let go of the streams. May be repeated."""
        if self.stdio is not None:
            await self.stdio.close()


def note_end(message: Ended, exit: Exit | None) -> None:
    """Set `exit_status` and `exited_at` of a message about a process: how it ended, or that it has not."""
    if exit is None:
        message.exited_at.seconds = _NEVER_S
    else:
        message.exit_status = exit.status
        message.exited_at.FromNanoseconds(exit.at)


def exit_event(container_id: str, process_id: str, exit: Exit) -> events_pb2.TaskExit:
    """The event that tells of a process's end; `process_id` is the container's id for init, else the exec's."""
    event = events_pb2.TaskExit(container_id=container_id, id=process_id, pid=exit.pid)
    note_end(event, exit)
    return event
