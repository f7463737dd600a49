"""Starts agents and other programs of the node in a container, by the OCI runtime's `exec`.

A supervised agent with a memory limit gets its own cgroup; a program that runs to its end gets a timeout.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from runtime import bundle as bundles
from runtime.agents import cgroup
from runtime.agents.process import Supervised
from runtime.errors import FailedPrecondition, RuntimeFailed
from runtime.oci import argv
from runtime.oci.cli import MemoryFile, OCIRuntime
from shim.task.hooks.hook_run import Capture
from shim.task.reaper import Exit, Reaper, make
from shim.task.rich.agent_files import AgentFiles
from shim.task.rich.agent_log import AgentLog


@dataclass(slots=True)
class AgentExec:
    """Starts programs in one container. `cgroup_path` is the directory of the container's own cgroup on v2, ""
    elsewhere; it is set once the container has been created. `frozen` is set while the container is frozen.

    `owner` has the host ids of the container's root; with a user namespace the agent's ids are offsets to them. `files`
    checks the agent's files before and after its program is executed; None: no check.
    """

    container_id: str
    bundle_path: str
    oci: OCIRuntime
    reaper: Reaper
    cgroup_path: str = ""
    owner: tuple[int, int] = (0, 0)
    files: AgentFiles | None = None
    frozen: bool = False
    _starting: int = 0
    _none_starts: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for_starts(self) -> None:
        """Return once no start is under way: during a start the OCI runtime is in the container's cgroup, and would be
        frozen with it. The caller keeps others from beginning, by setting `frozen`."""
        while self._starting:
            self._none_starts.clear()
            await self._none_starts.wait()

    @contextmanager
    def _exec(self) -> Iterator[None]:
        """A context around the OCI runtime's exec."""
        if self.frozen:
            raise FailedPrecondition("the container is frozen")
        self._starting += 1
        try:
            with self.reaper.expecting():
                yield
        finally:
            self._starting -= 1
            if not self._starting:
                self._none_starts.set()

    async def start(self, agent: Supervised, output: AgentLog, ended: Callable[[Exit], None]) -> int:
        """Start the agent and return its PID, see `agents.Start`.

        Raises RuntimeFailed, FailedPrecondition (memory limit, files), OSError.
        """
        await self._require_files(agent)
        directory = self._limited(agent)
        user = agent.process["user"]
        writer = output.writer(self.owner[0] + user["uid"], self.owner[1] + user["gid"])
        # containerd's ids begin with a letter or digit, so no exec of a client has a file of this name.
        pid_file = f"{self.bundle_path}/.agent-{agent.name}.pid"
        with MemoryFile("agent") as process, self._exec():
            process.write(json.dumps(agent.process).encode())
            options = argv.ExecOptions(process=process.path, pid_file=pid_file)
            pid = await make(self.oci.exec(self.container_id, options, {1: writer, 2: writer}), pid_file, self.reaper)
            bundles.unlink_if_exists(pid_file)
            self.reaper.watch(pid, ended)
        if directory:
            self._enter(directory, pid)
        try:
            await self._require_files(agent)
        except BaseException:
            self.reaper.kill(pid)
            raise
        return pid

    async def _require_files(self, agent: Supervised) -> None:
        if self.files is not None:
            await self.files.require(agent.name)

    async def program(self, process: Mapping[str, Any], *, timeout_s: float) -> tuple[int, str]:
        """Run the OCI process object `process` to its end; return its exit status and the end of its output.

        Raises RuntimeFailed, also for a process that is killed after `timeout_s`; FailedPrecondition in a frozen
        container; OSError.
        """
        loop = asyncio.get_running_loop()
        pid_file = f"{self.bundle_path}/.agent.pid"
        ended: asyncio.Future[Exit] = loop.create_future()
        with MemoryFile("agent") as file, Capture(self.owner[0]) as output:
            file.write(json.dumps(process).encode())
            options = argv.ExecOptions(process=file.path, pid_file=pid_file)
            try:
                async with asyncio.timeout(timeout_s):
                    with self._exec():
                        call = self.oci.exec(self.container_id, options, {1: output.writer, 2: output.writer})
                        pid = await make(call, pid_file, self.reaper)
                        bundles.unlink_if_exists(pid_file)
                        self.reaper.watch(pid, ended.set_result)
                    try:
                        await asyncio.shield(ended)
                    finally:
                        if not ended.done():  # not reaped yet, so the PID is its own
                            self.reaper.kill(pid)
            except TimeoutError:
                raise RuntimeFailed(f"{process['args'][0]}: took longer than {timeout_s:g}s") from None
        return ended.result().status, output.tail.text()

    def _limited(self, agent: Supervised) -> str:
        if agent.memory_bytes is None or not self.cgroup_path:
            return ""
        directory = cgroup.path_of(self.cgroup_path, agent.name)
        cgroup.make(directory, agent.memory_bytes)
        return directory

    def _enter(self, directory: str, pid: int) -> None:
        try:
            cgroup.enter(directory, pid)
        except OSError:
            self.reaper.kill(pid)  # no agent runs without its limit

    def note_cgroups(self, agents: Sequence[Supervised]) -> None:
        """Note the cgroups of `agents` for `delete`, which removes them if this process is killed. Raises OSError."""
        limited = [one.name for one in agents if one.memory_bytes is not None] if self.cgroup_path else []
        if limited:
            cgroup.note(self.bundle_path, [cgroup.path_of(self.cgroup_path, name) for name in limited])

    def remove_cgroups(self) -> None:
        """Remove the noted cgroups, once the container has ended."""
        cgroup.remove_noted(self.bundle_path)
