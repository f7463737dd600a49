"""One pod's server: puts all parts together, and ends the process.

The pod server ends when containerd sends Shutdown and no container is left; when it has had no container for a while,
since a containerd that was killed between `start` and Create may never use this server; and on SIGTERM. Between
requests it sleeps without a timer.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

from protos.gen import agents_pb2, task_pb2, task_v3_pb2
from runtime.cgroup import attach
from runtime.linux import oom_score
from runtime.oci import readonly_exec
from shim.pod import status
from shim.pod.trim import Trim
from shim.task.agent_service import AgentService
from shim.task.cancellation import run_to_completion
from shim.task.create.create import PodTools
from shim.task.reaper import Child, Reaper
from shim.task.report import measures
from shim.task.report.publisher import Publisher
from shim.task.service import TaskService
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind

GIVE_UP_AFTER_S = 60.0
ANSWER_TIMEOUT_S = 2.0
EVENTS_TIMEOUT_S = 5.0
GIVEN_UP_TIMEOUT_S = 2.0  # containerd allows the Delete after a failed Create five seconds
# Variables that an OCI runtime, a hook or a container must not inherit: they concern this process, or containerd.
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

    `socket_path` is unlinked at the end; "" if the socket is not ours. Owns the process: signals, children, event loop.
    """
    with asyncio.Runner() as runner:
        return runner.run(PodServer(namespace, ttrpc_address, socket_path).run(listener))


class PodServer:
    """One pod's server, run once."""

    def __init__(self, namespace: str, ttrpc_address: str, socket_path: str) -> None:
        self._socket_path = socket_path
        self._done = asyncio.Event()
        self._env = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        self._publisher = Publisher(ttrpc_address, namespace)
        self._namespace = namespace
        self._give_up: asyncio.TimerHandle | None = None

    async def run(self, listener: int) -> int:
        """Serve on the listening descriptor `listener` in the running loop; see `serve`."""
        loop = asyncio.get_running_loop()
        self._reaper = Reaper(loop)
        self._reaper.install()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        tools = PodTools(reaper=self._reaper, run=self._run_program, publish=self._publisher.publish)
        self._migration = tools.migration
        self._tasks = TaskService(self._namespace, tools, on_empty=self.end, on_change=self._consider_going)
        self._server = TtrpcServer(
            [
                bind(task_pb2.DESCRIPTOR.services_by_name["Task"], self._tasks),
                bind(task_v3_pb2.DESCRIPTOR.services_by_name["Task"], self._tasks),
                bind(agents_pb2.DESCRIPTOR.services_by_name["Agents"], AgentService(self._tasks.container)),
            ],
            status_of=status.status_of,
            on_connection=self._connected,
            on_answer=Trim(loop, self._tasks.rest).answered,
            ending=("Shutdown",),  # containerd 2.4 sends another one after the Delete that ended this server
        )
        await self._server.start(socket.socket(fileno=listener))
        self._consider_going()
        await self._done.wait()
        return await self._close()

    async def _close(self) -> int:
        self._migration.close()
        await self._server.drain(ANSWER_TIMEOUT_S)
        await self._publisher.close(EVENTS_TIMEOUT_S)
        measures.flush()
        return 0

    def end(self) -> None:
        """Let `run` return.

        The socket is unlinked first, before the request that ends the server is answered: a `start` for the same pod
        must not find a server that is about to end, and a later `delete` must not remove the socket of a new server.
        """
        path, self._socket_path = self._socket_path, ""
        if path:
            with suppress(FileNotFoundError):
                os.unlink(path)
        self._done.set()

    def _connected(self) -> None:
        """Prepare the cgroup migration of a container that is about to be created.

        containerd opens a connection for each container right before its Create (core/runtime/v2/shim.go). After its
        restart it opens one for each existing container.
        """
        if not attach.is_unified() and self._server.connections > self._tasks.count:
            self._migration.open()

    def _consider_going(self) -> None:
        """If there is nothing to serve, end after a while."""
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        if self._tasks.idle:
            self._give_up = asyncio.get_running_loop().call_later(GIVE_UP_AFTER_S, self.end)

    async def _run_program(
        self, argv: Sequence[str], fds: Mapping[int, int], *, oom_score_adj: int | None = None
    ) -> int:
        """Run a program to its end: nobody could undo half of its work.

        If the request is cancelled, the program has a moment left and is then killed. The caller waits for its end
        nevertheless, to know what to undo.
        """
        with oom_score.for_forks(oom_score_adj):
            try:
                child = self._reaper.spawn(argv, fds, self._env, program=readonly_exec.executable(argv[0]))
            except OSError:  # try the installed program; its error then names the program
                child = self._reaper.spawn(argv, fds, self._env)
        try:
            return (await asyncio.shield(child.ended)).status
        except asyncio.CancelledError:
            await run_to_completion(_end_soon(child))
            raise


async def _end_soon(child: Child) -> None:
    await asyncio.wait([child.ended], timeout=GIVEN_UP_TIMEOUT_S)
    if not child.ended.done():
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.wait([child.ended])
