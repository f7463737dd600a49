"""Containers through ctr, containerd's own client, in the namespace `default`."""

import itertools
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from tests.integration import binaries, configuration, images, processes
from tests.integration.binaries import Environment
from tests.integration.node import Node
from tests.integration.waiting import until

_numbers = itertools.count(1)
LOOKS = 5


@dataclass(frozen=True, slots=True)
class Result:
    """A finished command: `code` is ctr's exit status, which is the container's where ctr waited for it."""

    code: int
    stdout: bytes
    stderr: str


class Ctr:
    """ctr of one node, with the runtime of one environment."""

    def __init__(self, node: Node, environment: Environment) -> None:
        self.node = node
        self.environment = environment

    def new_id(self) -> str:
        """A container id not used before in this run."""
        return f"test-{next(_numbers)}"

    def argv(self, *args: str) -> list[str]:
        """The command line of `ctr ARGS`."""
        return self.node.ctr_argv("-n", "default", *args)

    def call(self, *args: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Result:
        """Run ctr to its end."""
        done = subprocess.run(self.argv(*args), input=stdin, capture_output=True, timeout=timeout_s, check=False)
        return Result(done.returncode, done.stdout, done.stderr.decode(errors="replace"))

    def check(self, *args: str, stdin: bytes = b"", timeout_s: float = 60.0) -> str:
        """Run ctr, which must succeed, and return its output."""
        result = self.call(*args, stdin=stdin, timeout_s=timeout_s)
        assert result.code == 0, f"ctr {' '.join(args)}: exit status {result.code}: {result.stderr}"
        return result.stdout.decode(errors="replace")

    def open(
        self, *args: str, stdin: int | IO[bytes] = subprocess.PIPE, stdout: int = subprocess.PIPE
    ) -> "subprocess.Popen[bytes]":
        """Start ctr and leave it running; the caller waits for it."""
        return subprocess.Popen(self.argv(*args), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)

    def runtime_flags(self) -> list[str]:
        """The flags of `ctr run` that choose the environment's shim and OCI runtime."""
        match self.environment.runtime:
            case "runc.v2":
                return ["--runtime", "io.containerd.runc.v2", "--runc-binary", str(self.node.oci)]
            case "pouchrich" | "pouchrich-rich" as name:
                file = configuration.PLAIN_FILE if name == "pouchrich" else configuration.RICH_FILE
                return ["--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", file]
            case _:
                return ["--runtime", str(binaries.shim())]

    def run_args(self, container: str, command: Sequence[str], flags: Sequence[str] = ()) -> list[str]:
        """The arguments of `ctr run` for the busybox image."""
        common = [
            "--snapshotter",
            self.node.settings.snapshotter,
            "--cgroup",
            f"{self.node.cgroup}/{container}",
        ]
        return ["run", *self.runtime_flags(), *common, *flags, images.BUSYBOX, container, *command]

    def run(self, *command: str, flags: Sequence[str] = (), stdin: bytes = b"", timeout_s: float = 60.0) -> Result:
        """Run a container to its end, in the foreground, and remove it."""
        args = self.run_args(self.new_id(), command, ("--rm", *flags))
        return self.call(*args, stdin=stdin, timeout_s=timeout_s)

    def start(self, *command: str, flags: Sequence[str] = ()) -> str:
        """Start a detached container and return its id."""
        container = self.new_id()
        self.check(*self.run_args(container, command, ("--detach", *flags)))
        return container

    def exec(self, container: str, *command: str, flags: Sequence[str] = (), stdin: bytes = b"") -> Result:
        """Run a process in a container to its end."""
        return self.call("tasks", "exec", "--exec-id", self.new_id(), *flags, container, *command, stdin=stdin)

    def look(self, container: str, *command: str) -> bytes:
        """What a process in a container prints that only looks, and prints something. It must succeed.

        On a busy machine ctr now and then ends before it has read a short process's output, with containerd's own shim
        too, so it is asked again where it prints nothing.
        """
        for _ in range(LOOKS):
            found = self.exec(container, *command)
            assert found.code == 0, f"{command}: exit status {found.code}: {found.stderr}"
            if found.stdout:
                return found.stdout
        raise AssertionError(f"{command}: nothing printed, {LOOKS} times")

    def status(self, container: str) -> str:
        """The task's status as ctr prints it (CREATED, RUNNING, STOPPED, PAUSED), or "" without a task."""
        for line in self.check("tasks", "ls").splitlines()[1:]:
            name, _, status = line.split()
            if name == container:
                return status
        return ""

    def pid(self, container: str) -> int:
        """The host pid of the task's init."""
        for line in self.check("tasks", "ls").splitlines()[1:]:
            name, pid, _ = line.split()
            if name == container:
                return int(pid)
        raise AssertionError(f"{container}: no task")

    def command_pid(self, container: str) -> int:
        """The host pid of the command: init's, or of the one child that a dumb-init has."""
        init = self.pid(container)
        if not self.environment.adds:
            return init
        until(lambda: processes.descendants(init), "the command to run")
        return processes.descendants(init)[0]

    def pids(self, container: str) -> list[int]:
        """The host pids of everything in the container."""
        return [int(line.split()[0]) for line in self.check("tasks", "ps", container).splitlines()[1:]]

    def kill(self, container: str, signal: str) -> Result:
        """Signal the task's init."""
        return self.call("tasks", "kill", "--signal", signal, container)

    def delete_task(self, container: str) -> int:
        """Delete a stopped task, and return its exit status, which ctr tells in a warning."""
        result = self.call("tasks", "rm", container)
        told = re.search(r"non-zero exit code (\d+)", result.stderr)
        assert result.code == 0 or told, result.stderr
        return int(told[1]) if told else 0

    def delete(self, container: str) -> int:
        """Delete a stopped task, whose exit status is returned, and its container."""
        code = self.delete_task(container)
        self.check("containers", "rm", container)
        return code

    def wait_stopped(self, container: str) -> None:
        """Wait until the task has ended."""
        until(lambda: self.status(container) in ("STOPPED", ""), f"{container} to stop")

    def remove_all(self) -> None:
        """Remove what tests left in the namespace, whatever its state."""
        for line in self.call("tasks", "ls").stdout.decode().splitlines()[1:]:
            self.call("tasks", "rm", "--force", line.split()[0])
        for container in self.call("containers", "ls", "--quiet").stdout.decode().split():
            self.call("containers", "rm", container)
