"""Runs a helper program that answers one question, outside the event loop, with bounded time and output.

It is for work that this process must not do itself: work that may hang in the kernel, needs other namespaces, or loads
a large library, which would stay in a server that lives as long as its pod.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from runtime.errors import DeadlineExceeded
from runtime.oci.cli import input_file
from shim.task.reaper import Reaper

LIMIT = 64 * 1024


async def ask(
    reaper: Reaper,
    argv: Sequence[str],
    *,
    timeout_s: float,
    question: bytes = b"",
    fds: Mapping[int, int] | None = None,
) -> tuple[int, bytes]:
    """Run `argv` with `question` as its standard input; return exit status and output.

    The output is cut at LIMIT. `fds` are further descriptors, child's number -> ours. Raises DeadlineExceeded when the
    program has not ended in time: it gets SIGKILL, and nobody waits, since a process that hangs in the kernel does not
    die of it; the reaper reaps it whenever it ends. Raises OSError where the program cannot be started.
    """
    with input_file("question", question) as given:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        try:
            child = reaper.spawn(argv, {**(fds or {}), 0: given.fd, 1: writer}, {})
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
    try:
        async with asyncio.timeout(timeout_s):
            output = await _read_all(reader)
            return (await asyncio.shield(child.ended)).status, output
    except TimeoutError:
        raise DeadlineExceeded(f"{argv[0]}: no answer within {timeout_s:g} s") from None
    finally:
        os.close(reader)
        if not child.ended.done():
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


async def _read_all(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    data = b""
    try:
        while True:
            await readable.wait()
            readable.clear()
            with suppress(BlockingIOError):
                chunk = os.read(fd, LIMIT)
                if not chunk:
                    return data[:LIMIT]
                data = (data + chunk)[:LIMIT]
    finally:
        loop.remove_reader(fd)
