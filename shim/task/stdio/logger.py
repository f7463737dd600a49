"""Logging drivers: a program of the node that takes a process's output (`binary://`, `binary-v2://`).

The executable is the URL's path; each query key and its first value become two arguments. The program gets the two
streams as descriptors 3 and 4, and reports that it is ready on descriptor 5, by a byte or, for `binary`, by closing it.
Its environment is CONTAINER_ID and CONTAINER_NAMESPACE only (containerd, runtime/v2/README.md, Logging).
"""

import asyncio
import os
import signal
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

from runtime.errors import InvalidArgument, RuntimeFailed
from shim.task.cancellation import run_to_completion
from shim.task.reaper import Child, Reaper
from shim.task.stdio.endpoints import close_all
from shim.task.stdio.url import path_of

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 12.0


class Logger:
    """A running logging program and the write ends of its two streams."""

    def __init__(self, child: Child, stdout: int, stderr: int) -> None:
        self._child = child
        self.stdout = stdout
        self.stderr = stderr
        self._open = True

    def duplicate_stdout(self) -> int:
        """A duplicate of the first stream's descriptor, for the caller to close."""
        return os.dup(self.stdout)

    async def close(self) -> None:
        """End both streams, ask the program to stop, wait for it 12 s, then kill it. May be repeated."""
        if not self._open:
            return
        self._open = False
        os.close(self.stdout)
        os.close(self.stderr)
        if self._child.ended.done():
            return
        os.kill(self._child.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.shield(self._child.ended)
        except TimeoutError:
            os.kill(self._child.pid, signal.SIGKILL)
            await self._child.ended


async def start(url: str, *, container_id: str, namespace: str, reaper: Reaper) -> Logger:
    """Start the program of `url` and wait until it is ready.

    Raises InvalidArgument for a URL without an executable, RuntimeFailed where a `binary-v2` program ends or is
    silent for 30 s.
    """
    parts, path = urlsplit(url), path_of(url)
    if not os.access(path, os.X_OK):
        raise InvalidArgument(f"stdout: found {url!r}, but {path!r} is no executable file")
    argv = [path]
    for key, values in parse_qs(parts.query, keep_blank_values=True).items():
        argv += [key, values[0]]
    env = {"CONTAINER_ID": container_id, "CONTAINER_NAMESPACE": namespace}
    fds: list[int] = []
    try:
        for _ in range(3):
            fds += os.pipe2(os.O_CLOEXEC)
        out_read, out_write, err_read, err_write, ready_read, ready_write = fds
        child = reaper.spawn(argv, {3: out_read, 4: err_read, 5: ready_write}, env)
        for fd in (out_read, err_read, ready_write):
            os.close(fd)
            fds.remove(fd)
        logger = Logger(child, out_write, err_write)
        fds = [ready_read]
        try:
            word = await _first_byte(ready_read)
            if not word and parts.scheme == "binary-v2":
                raise RuntimeFailed("logging binary did not call ready (it may have crashed or exited prematurely)")
        except BaseException:
            await run_to_completion(logger.close())
            raise
        return logger
    finally:
        close_all(fds)


async def _first_byte(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    os.set_blocking(fd, False)
    loop.add_reader(fd, ready.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_TIMEOUT_S):
                await ready.wait()
                return os.read(fd, 1)
        raise RuntimeFailed(f"logging binary was not ready within {READY_TIMEOUT_S:.0f} s")
    finally:
        loop.remove_reader(fd)


class LoggerIO:
    """Streams that go directly to a logging program; nothing is copied. There is no standard input in this form."""

    console_socket = ""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def child_fds(self) -> dict[int, int]:
        """The logger's pipes."""
        return {1: self._logger.stdout, 2: self._logger.stderr}

    async def attach(self) -> None:
        """Already connected. Our own ends stay open, so the logger sees no EOF before Delete."""

    def close_stdin(self) -> None:
        """No standard input."""

    def resize(self, *, width: int, height: int) -> None:
        """No terminal."""

    def process_ended(self) -> None:
        """No effect: the logger sees no EOF before Delete."""

    def discard(self) -> None:
        """No effect: the logger sees no EOF before Delete, and nobody waits for one."""

    async def drain(self) -> None:
        """Nothing to wait for: no output passes through this process."""

    async def close(self) -> None:
        """Stop the logger."""
        await self._logger.close()
