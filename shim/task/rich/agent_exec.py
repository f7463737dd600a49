"""How a supervised agent is started: the OCI runtime's `exec`, and with a memory limit its own cgroup."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from runtime import bundle as bundles
from runtime.agents import cgroup
from runtime.agents.process import Supervised
from runtime.oci import argv
from runtime.oci.cli import MemoryFile, OCIRuntime
from shim.task.reaper import Exit, Reaper
from shim.task.rich.agent_log import AgentLog


@dataclass(slots=True)
class AgentExec:
    """Called as `agents.Start`. `cgroup_path` is the directory of the container's own cgroup on v2, "" elsewhere; it is
    known, and set, once the container has been created.

    `owner` is the host's id of the container's root: with a user namespace the agent's ids are counted from there.
    """

    container_id: str
    bundle_path: str
    oci: OCIRuntime
    reaper: Reaper
    cgroup_path: str = ""
    owner: tuple[int, int] = (0, 0)

    async def __call__(self, agent: Supervised, output: AgentLog, ended: Callable[[Exit], None]) -> int:
        """Start it. Raises RuntimeFailed, FailedPrecondition for its memory limit, OSError."""
        directory = self._limited(agent)
        user = agent.process["user"]
        writer = output.writer(self.owner[0] + user["uid"], self.owner[1] + user["gid"])
        # containerd's ids begin with a letter or digit: no exec of a client can have this file's name.
        pid_file = f"{self.bundle_path}/.agent-{agent.name}.pid"
        with MemoryFile("agent") as process, self.reaper.expecting():
            process.write(json.dumps(agent.process).encode())
            options = argv.ExecOptions(process=process.path, pid_file=pid_file)
            try:
                await self.oci.exec(self.container_id, options, {1: writer, 2: writer})
                pid = bundles.read_pid(pid_file)
            finally:
                bundles.remove(pid_file)
            self.reaper.watch(pid, ended)
        if directory:
            self._enter(directory, pid)
        return pid

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
            with suppress(ProcessLookupError):  # better none than one without its limit
                os.kill(pid, signal.SIGKILL)

    def note_cgroups(self, agents: Sequence[Supervised]) -> None:
        """Have `delete` remove the cgroups of these agents, should this process be killed. Raises OSError."""
        limited = [one.name for one in agents if one.memory_bytes is not None] if self.cgroup_path else []
        if limited:
            cgroup.note(self.bundle_path, [cgroup.path_of(self.cgroup_path, name) for name in limited])

    def remove_cgroups(self) -> None:
        """Remove what was noted, once the container has ended."""
        cgroup.remove_noted(self.bundle_path)
