"""One pod's server: the only place where everything is put together, and where it ends.

It lives for its containers. It goes when containerd says Shutdown and none is left; when there has been none for a
while, as a containerd that was killed between `start` and Create may never speak of this pod again; and on SIGTERM.
Between requests it sleeps without a timer.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

from protos.gen import agents_pb2, task_pb2, task_v3_pb2
from runtime.linux import oom_score
from runtime.oci import program
from shim.pod import status
from shim.pod.trim import Trim
from shim.task.agent_service import AgentService
from shim.task.create.create import Tools
from shim.task.reaper import Reaper
from shim.task.report import measures
from shim.task.report.publisher import Publisher
from shim.task.service import TaskService
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind

GIVE_UP_AFTER_S = 60.0
ANSWER_TIMEOUT_S = 2.0
EVENTS_TIMEOUT_S = 5.0
GIVEN_UP_TIMEOUT_S = 2.0  # containerd gives the Delete after a failed Create five seconds
# What an OCI runtime, a hook or a container must not inherit: they are about this process, or about containerd.
NOT_INHERITED = (
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
)

_log = logging.getLogger(__name__)


def serve(*, namespace: str, ttrpc_address: str, socket_path: str, listener: int) -> int:
    """Serve the Task API on the listening descriptor `listener` until done; return the exit status of the process.

    `socket_path` is unlinked at the end; "" where the socket is somebody else's. Owns the process: signals, children,
    event loop.
    """
    with asyncio.Runner() as runner:
        return runner.run(Pod(namespace, ttrpc_address, socket_path).run(listener))


class Pod:
    """One pod's server, run once."""

    def __init__(self, namespace: str, ttrpc_address: str, socket_path: str) -> None:
        self._socket_path = socket_path
        self._done = asyncio.Event()
        self._env = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        self._publisher = Publisher(ttrpc_address, namespace)
        self._namespace = namespace
        self._give_up: asyncio.TimerHandle | None = None

    async def run(self, listener: int) -> int:
        """Serve on the listening descriptor `listener`, as `serve` says, in the running loop."""
        loop = asyncio.get_running_loop()
        self._reaper = Reaper(loop)
        self._reaper.install()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        tools = Tools(reaper=self._reaper, run=self._run_program, publish=self._publisher.publish)
        self._tasks = TaskService(self._namespace, tools, on_empty=self.end, on_change=self._consider_going)
        self._server = TtrpcServer(
            [
                bind(task_pb2.DESCRIPTOR.services_by_name["Task"], self._tasks),
                bind(task_v3_pb2.DESCRIPTOR.services_by_name["Task"], self._tasks),
                bind(agents_pb2.DESCRIPTOR.services_by_name["Agents"], AgentService(self._tasks.container)),
            ],
            status_of=status.status_of,
            on_answer=Trim(loop, self._tasks.rest).answered,
            ending=("Shutdown",),  # containerd 2.4 asks once more after the Delete that ended this server
        )
        await self._server.start(socket.socket(fileno=listener))
        self._consider_going()
        await self._done.wait()
        return await self._close()

    async def _close(self) -> int:
        await self._server.drain(ANSWER_TIMEOUT_S)
        await self._publisher.close(EVENTS_TIMEOUT_S)
        measures.flush()
        return 0

    def end(self) -> None:
        """Have `run` come to its end.

        The address goes first, before whoever asked for it is answered: a `start` for the same pod must not find a
        server that is about to go, and a `delete` that comes next leaves the socket to a server that lives.
        """
        path, self._socket_path = self._socket_path, ""
        if path:
            with suppress(FileNotFoundError):
                os.unlink(path)
        self._done.set()

    def _consider_going(self) -> None:
        """With nothing to serve, go after a while."""
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        if self._tasks.idle:
            self._give_up = asyncio.get_running_loop().call_later(GIVE_UP_AFTER_S, self.end)

    async def _run_program(
        self, argv: Sequence[str], fds: Mapping[int, int], *, oom_score_adj: int | None = None
    ) -> int:
        """Run a program to its end, also when the request is given up: what it does half-way nobody could undo.

        Only one that then takes too long is killed; until it has gone the caller cannot know what there is to undo.
        """
        with oom_score.of_forks(oom_score_adj):
            try:
                child = self._reaper.spawn(argv, fds, self._env, program=program.of(argv[0]))
            except OSError:  # what worked before; if it is the program's fault, it is named now
                child = self._reaper.spawn(argv, fds, self._env)
        try:
            return (await asyncio.shield(child.ended)).status
        except asyncio.CancelledError:
            await asyncio.wait([child.ended], timeout=GIVEN_UP_TIMEOUT_S)
            if not child.ended.done():
                os.kill(child.pid, signal.SIGKILL)
                await child.ended
            raise
