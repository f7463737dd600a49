"""Copies bytes from one descriptor to another, in the event loop.

Between two pipes the kernel moves pages (splice) and the bytes never enter this process; a terminal or a file is read
and written. A full destination stops the reading, so the writer blocks and nothing is buffered here beyond one read. An
idle relay has no timer and causes no wake-ups. The exception is a file on a full disk: the kernel does not report when
there is room again, so a timer retries, because the process must not die of SIGPIPE over it. Once the process has ended
the relay stops retrying.

The pipes keep their default size. Larger pipes are faster (1.5 times containerd 2.1's shim, not 1.1), but a client may
never read what is unread when it learns of the exit: containerd 1.6's CRI and `ctr run` stop reading then.
"""

import asyncio
import errno
import fcntl
import logging
import os
import stat
import termios
from collections.abc import Callable

from runtime.linux import readable

SPLICE_BYTES = 1 << 20  # the most that a pipe may hold; the kernel moves what is there
READ_BYTES = 64 * 1024
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_SPACE_PAUSE_S = 1.0
TRIES = 60
"""How often to retry a write to a file that fails for another reason than a full disk; then the output is lost."""
ROUNDS = 16  # moves in a row before the event loop's other descriptors get their turn

_log = logging.getLogger(__name__)


class Relay:
    """Copies `source` to `target` until the source ends or the target breaks, then calls `ended` once.

    Both descriptors must be non-blocking. The caller owns them, and may close them in `ended`. With `target` None all
    bytes are discarded.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: int, target: int | None, ended: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._source = source
        self._target = target
        self._ended: Callable[[], None] | None = ended
        self._waiting = b""  # read, but not yet taken by the target
        self._pause: asyncio.TimerHandle | None = None
        self._tries = 0
        self._reads = True  # the loop watches the source; else the target is waited for
        self._finishing = False
        self._splices = target is not None and _is_pipe(source) and _is_pipe(target)
        self._to_file = target is not None and stat.S_ISREG(os.fstat(target).st_mode)
        loop.add_reader(source, self._move)

    def close(self) -> None:
        """Stop copying. Calls `ended` if it was not called before."""
        if self._ended is None:
            return
        self._loop.remove_reader(self._source)
        if self._target is not None:
            self._loop.remove_writer(self._target)
        if self._pause is not None:
            self._pause.cancel()
        ended, self._ended = self._ended, None
        ended()

    def finish(self) -> None:
        """End as soon as nothing is left to read, whoever could still write.

        Nothing that was written before is lost: where a terminal's reader would have to wait, the kernel first hands on
        what is under way (drivers/tty/n_tty.c, n_tty_read, tty_buffer_flush_work).
        """
        self._finishing = True
        self._move()

    def _move(self) -> None:
        """The source is readable, has ended, or may have nothing more."""
        if self._ended is None or not self._reads:
            return
        for _ in range(ROUNDS):
            try:
                moved = self._splice() if self._splices else self._read_and_write()
            except BlockingIOError:
                if self._finishing and self._reads:
                    self.close()
                return
            except OSError as err:  # EIO: nobody has the terminal open; EPIPE, EBADF: nobody reads the target
                self._failed(err)
                return
            if not moved:
                self.close()
                return
        if self._finishing:
            self._loop.call_soon(self._move)

    def _splice(self) -> bool:
        assert self._target is not None
        flags = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
        try:
            return os.splice(self._source, self._target, SPLICE_BYTES, flags=flags) > 0
        except BlockingIOError:
            # Either end may not be ready, and splice does not say which.
            if _holds_bytes(self._source):
                self._wait_for_room()
            raise

    def _read_and_write(self) -> bool:
        data = os.read(self._source, READ_BYTES)
        if self._target is None or not data:
            return bool(data)
        self._waiting = data
        self._write()
        return True

    def _write(self) -> None:
        assert self._target is not None
        while self._waiting:
            try:
                self._waiting = self._waiting[os.write(self._target, self._waiting) :]
            except BlockingIOError:
                self._wait_for_room()
                raise

    def _wait_for_room(self) -> None:
        assert self._target is not None
        self._stop_reading()
        self._loop.add_writer(self._target, self._room)

    def _room(self) -> None:
        """The target has room: write the waiting bytes, then read from the source again."""
        assert self._target is not None
        self._loop.remove_writer(self._target)
        try:
            self._write()
        except BlockingIOError:
            return
        except OSError as err:
            self._failed(err)
            return
        self._pause, self._tries = None, 0
        self._read_on()

    def _stop_reading(self) -> None:
        self._reads = False
        self._loop.remove_reader(self._source)

    def _read_on(self) -> None:
        self._reads = True
        self._loop.add_reader(self._source, self._move)
        if self._finishing:
            self._move()

    def _failed(self, err: OSError) -> None:
        is_space = err.errno in NO_SPACE
        self._tries += not is_space
        if not is_space and not (self._to_file and self._waiting and self._tries <= TRIES):
            self._give_up(err)
            return
        is_over = self._finishing or readable.has_hung_up(self._source)
        if is_over or self._pause is None:
            what = "the last of a container's output is lost" if is_over else "a container's output waits"
            _log.warning("%s: %s: %s", os.readlink(f"/proc/self/fd/{self._target}"), err.strerror, what)
        if is_over:
            self.close()
            return
        self._stop_reading()
        self._pause = self._loop.call_later(NO_SPACE_PAUSE_S, self._room)

    def _give_up(self, err: OSError) -> None:
        """Writing has failed for good. If the target is a file, read on and discard, so that the writer lives."""
        if not (self._to_file and self._waiting):
            self.close()
            return
        _log.warning("%s: %s: output is lost", os.readlink(f"/proc/self/fd/{self._target}"), err.strerror)
        self._target, self._waiting, self._pause = None, b"", None
        self._read_on()


def _is_pipe(fd: int) -> bool:
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


def _holds_bytes(pipe: int) -> bool:
    return any(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
