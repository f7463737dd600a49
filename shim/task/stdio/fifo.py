"""Opens the path that a client has named for a process's output or input: a FIFO that it made, or a plain file."""

import asyncio
import errno
import fcntl
import os
import stat
from contextlib import suppress

from runtime.errors import DeadlineExceeded
from shim.task.thread import in_thread

READER_TIMEOUT_S = 30.0
# The size of a client's FIFO that a container writes to directly: as much as a FIFO and a pipe in front of it hold by
# default. Not more, because a client may never read what is unread when it learns of the exit (containerd 1.6's CRI and
# `ctr run` stop reading then).
PASSTHROUGH_PIPE_BYTES = 128 * 1024


def open_if_read(path: str) -> tuple[int, int] | None:
    """Return (descriptor to write to, read descriptor that prevents EPIPE for the writer) of the FIFO at `path`.

    None if `path` is no FIFO, or nobody reads it yet. Raises OSError.
    """
    try:
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        if err.errno == errno.ENXIO:
            return None
        raise
    try:
        if stat.S_ISFIFO(os.fstat(writer).st_mode):
            os.set_blocking(writer, True)
            with suppress(OSError):  # it may hold more than that, or the user's pipe limit is reached
                fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PASSTHROUGH_PIPE_BYTES)
            return writer, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except BaseException:
        os.close(writer)
        raise
    os.close(writer)
    return None


def is_another_file(path: str) -> bool:
    """Whether `path` exists and is no FIFO."""
    return os.path.exists(path) and not stat.S_ISFIFO(os.stat(path).st_mode)


async def open_output(path: str) -> list[int]:
    """Return descriptors, the first for writing. Raises OSError, or DeadlineExceeded when nobody reads within 30 s.

    A FIFO is opened once it has a reader, so that the output has somewhere to go. It is opened for reading as well: the
    death of a client then breaks nothing, and a later client finds the stream whole. A plain file is appended to.
    """
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)]
    writer = await _open_for_writing(path)
    try:
        return [writer, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)]
    except BaseException:
        os.close(writer)
        raise


async def _open_for_writing(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as err:
        if err.errno != errno.ENXIO:
            raise
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)  # a client that gives up may remove the path
    try:
        writer = await _open_when_read(f"/proc/self/fd/{handle}")
    except TimeoutError as err:
        raise DeadlineExceeded(f"{path}: nobody opened it for reading within {READER_TIMEOUT_S:g} s") from err
    finally:
        os.close(handle)
    return writer


async def _open_when_read(path: str) -> int:
    opening = in_thread(lambda: os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    try:
        async with asyncio.timeout(READER_TIMEOUT_S):
            writer = await asyncio.shield(opening)
    except BaseException:
        await _release(path, opening)
        raise
    os.set_blocking(writer, False)
    return writer


async def _release(path: str, opening: "asyncio.Future[int]") -> None:
    """Let a thread that still blocks in open(2) return, by opening the FIFO for reading for a moment."""
    with suppress(OSError):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.close(await opening)
        finally:
            os.close(reader)


def open_input(path: str) -> tuple[int, int]:
    """Return (descriptor to read from, write descriptor that keeps the stream from ending). Raises OSError.

    The stream ends when the second is closed and the client's writers are closed too.
    """
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return reader, os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except BaseException:
        os.close(reader)
        raise
