"""Drives an OCI runtime by its command line.

The caller says how to run a program, so this module knows neither the event loop nor who reaps. Every call logs into
a memory file of its own: a reported error belongs to that call, and no log grows in the bundle.
"""

import json
import os
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from runtime import libexec
from runtime.errors import NotFound, RuntimeFailed
from runtime.linux import null, selinux
from runtime.oci import argv, log


class Run(Protocol):
    """A function that runs programs."""

    def __call__(
        self, argv: Sequence[str], fds: Mapping[int, int], /, *, oom_score_adj: int | None = None
    ) -> Awaitable[int]:
        """Run an argument list with the descriptors `fds` (child's number -> ours). Exit status, 128+n if killed.

        `oom_score_adj`: that of the program and its children (proc_pid_oom_score_adj(5)); None: the caller's.
        """


# The container's descriptors -> ours. None with a console: then the OCI runtime's own output is kept for its error.
Stdio = Mapping[int, int] | None
_ERROR_LIMIT = 64 * 1024
_MAKES_PROCESSES = ("create", "exec", "restore")


class OCIRuntime:
    """An OCI runtime and its state directory, for one container.

    Methods raise RuntimeFailed with the OCI runtime's own last error.

    `inside`: a cgroup.procs file, open for writing, of the cgroup in which the OCI runtime runs when it makes processes
    of the container, which then start there; None: in this process's cgroup. `oom_score_adj`: the container's, which
    execs get too. runc sets it by itself; crun, as of 1.21, does not. `maps_ids`: the container has a user namespace.
    """

    def __init__(self, binary: argv.OCIBinary, run: Run) -> None:
        self.binary = binary
        self.inside: int | None = None
        self.oom_score_adj: int | None = None
        self.maps_ids = False
        self._run = run
        self._null = null.ContainerNull()

    def close(self) -> None:
        """The container is gone. May be repeated."""
        self._null.close()

    async def create(self, container_id: str, options: argv.CreateOptions, stdio: Stdio) -> None:
        """Create a container whose init gets the descriptors `stdio`."""
        await self._call("create", argv.create(container_id, options), stdio)

    async def start(self, container_id: str) -> None:
        """Start the created container's init."""
        await self._call("start", argv.start(container_id))

    async def exec(self, container_id: str, options: argv.ExecOptions, stdio: Stdio) -> None:
        """Start a further process with the descriptors `stdio`; each of 0 to 2 that is missing becomes a /dev/null."""
        with ExitStack() as after:
            if stdio is not None and not {0, 1, 2} <= stdio.keys():
                own = self._null.open()
                after.callback(os.close, own)
                stdio = {**dict.fromkeys((0, 1, 2), own), **stdio}
            await self._call("exec", argv.exec(container_id, options), stdio)

    async def kill(self, container_id: str, signal: int, *, everyone: bool = False) -> None:
        """Send a signal. Raises NotFound where the process or the container no longer exists."""
        try:
            await self._call(
                "kill", argv.kill(container_id, signal, everyone=everyone), prefix="unknown error after kill"
            )
        except RuntimeFailed as err:
            if log.says_finished(str(err)):
                raise NotFound("process already finished") from err
            if log.says_unknown(str(err)):
                raise NotFound("no such container") from err
            raise

    async def delete(self, container_id: str, *, force: bool = False) -> None:
        """Remove a container's state. A container that the OCI runtime does not know is no error."""
        try:
            await self._call("delete", argv.delete(container_id, force=force), prefix="failed to delete task")
        except RuntimeFailed as err:
            if not log.says_unknown(str(err)):
                raise

    async def pause(self, container_id: str) -> None:
        """Freeze the container."""
        await self._call("pause", argv.pause(container_id))

    async def resume(self, container_id: str) -> None:
        """Thaw the container."""
        await self._call("resume", argv.resume(container_id))

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        """Change the container's limits to an OCI LinuxResources object."""
        with MemoryFile("resources") as file:
            file.write(json.dumps(resources).encode())
            await self._call("update", argv.update(container_id, file.path))

    async def checkpoint(self, container_id: str, options: argv.CheckpointOptions) -> None:
        """Write the container's state to files."""
        await self._call("checkpoint", argv.checkpoint(container_id, options))

    async def restore(self, container_id: str, options: argv.RestoreOptions, stdio: Stdio) -> None:
        """Make a running container from a checkpoint's files."""
        await self._call("restore", argv.restore(container_id, options), stdio)

    async def _call(self, what: str, words: Sequence[str], stdio: Stdio = None, *, prefix: str = "") -> None:
        with MemoryFile("log") as errors, MemoryFile("output") as output, ExitStack() as after:
            fds = {1: output.fd, 2: output.fd} if stdio is None else stdio
            if self.maps_ids and what in _MAKES_PROCESSES and not {0, 1, 2} <= fds.keys():
                fds = {**after.enter_context(_no_null()), **fds}
            command = argv.command(self.binary, errors.path, words)
            if self.inside is not None and what in _MAKES_PROCESSES:
                number = max(*fds, 2) + 1
                command, fds = argv.entering(libexec.path("launch"), number, command), {**fds, number: self.inside}
            if what == "exec" and self.oom_score_adj is not None:
                status = await self._run(command, fds, oom_score_adj=self.oom_score_adj)
            else:
                status = await self._run(command, fds)
            if status:
                reason = log.last_error(errors.read(_ERROR_LIMIT), output.read(_ERROR_LIMIT), status)
                raise RuntimeFailed(f"{prefix or f'OCI runtime {what} failed'}: {reason}")


@contextmanager
def _no_null() -> Iterator[dict[int, int]]:
    """Standard streams of a process that has none, and no /dev/null: an ended pipe, and a sink of its own.

    crun opens the container's /dev/null in the place of any other, and makes the container's root the owner of the
    streams (libcrun_reopen_dev_null, maybe_chown_std_streams). With a user namespace the container's /dev/null is the
    node's own file, whose mode its owner may change. Raises OSError.
    """
    with ExitStack() as after:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.close(writing)
        after.callback(os.close, reading)
        sink = null.open_own_sink()
        after.callback(os.close, sink)
        yield {0: reading, 1: sink, 2: sink}


class MemoryFile:
    """An anonymous file that a child can open at `path` while the context lasts."""

    def __init__(self, name: str) -> None:
        self.fd = os.memfd_create(f"pouchrich-{name}", os.MFD_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self.fd}"

    def __enter__(self) -> "MemoryFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def write(self, data: bytes) -> None:
        """Append all of `data`."""
        while data:
            data = data[os.write(self.fd, data) :]

    def read(self, limit: int) -> bytes:
        """The last `limit` bytes."""
        size = os.fstat(self.fd).st_size
        return os.pread(self.fd, limit, max(0, size - limit))


@contextmanager
def input_file(name: str, data: bytes, *, label: str = "") -> Iterator[MemoryFile]:
    """A memory file with `data`, for a child to read from the start: unlike a pipe, it cannot block who writes.

    `label` is an SELinux label. Raises OSError.
    """
    with MemoryFile(name) as file:
        file.write(data)
        selinux.label_file(file.fd, label)
        os.lseek(file.fd, 0, os.SEEK_SET)
        yield file
