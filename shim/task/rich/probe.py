"""A program of ours that answers a question, run beside the event loop: bounded in time and in what it may say.

Used where the answer must not be had in this process: what may hang in the kernel, what needs other namespaces, what
would load a large library into a server that lives as long as its pod.
"""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

from runtime.errors import DeadlineExceeded
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
    program has not ended in time: it is then sent SIGKILL and not waited for, since one that hangs in the kernel does
    not die of it; the reaper collects it whenever it ends. Raises OSError where it cannot be started.
    """
    given = _question(question)
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writer, True)
    try:
        child = reaper.spawn(argv, {**(fds or {}), 0: given, 1: writer}, {})
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(given)
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


def _question(question: bytes) -> int:
    """A descriptor to read `question` from. A memory file: writing it cannot block."""
    fd = os.memfd_create("pouchrich-question", os.MFD_CLOEXEC)
    os.write(fd, question)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


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
