"""Who opens a file, told by the kernel: fanotify(7), which unlike inotify says which process it was."""

import ctypes
import os
import select
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# <linux/fanotify.h>. By REPORT_FID the kernel names a file and does not open it for us, as it otherwise would.
_CLOEXEC, _NONBLOCK, _REPORT_FID = 0x1, 0x2, 0x200
_MARK_ADD, _DONT_FOLLOW, _OPEN = 0x1, 0x4, 0x20
_AT_FDCWD = -100
_EVENT = struct.Struct("=IBBHQii")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)


@dataclass(frozen=True, slots=True)
class Open:
    """`path` was opened by process `pid`, whose command line was `command`, "" where it had ended already."""

    path: str
    pid: int
    command: str


def _watch(path: Path) -> int:
    fd: int = _libc.fanotify_init(_CLOEXEC | _NONBLOCK | _REPORT_FID, os.O_RDONLY)
    if fd < 0 or _libc.fanotify_mark(fd, _MARK_ADD | _DONT_FOLLOW, _OPEN, _AT_FDCWD, os.fsencode(path)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return fd


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _drain(fd: int, path: str, seen: list[Open]) -> None:
    try:
        while data := os.read(fd, 4096):
            while data:
                length, *_, pid = _EVENT.unpack_from(data)
                seen.append(Open(path, pid, _command(pid)))
                data = data[length:]
    except BlockingIOError:
        pass


@contextmanager
def watched(paths: Iterable[Path]) -> Iterator[list[Open]]:
    """All opens of `paths`, none of which is followed, by whomever, while the `with` lasts; complete after it."""
    fds = {_watch(path): str(path) for path in paths}
    seen: list[Open] = []
    stop, stopped = os.pipe()

    def follow() -> None:
        poll = select.poll()
        for fd in (*fds, stop):
            poll.register(fd, select.POLLIN)
        while stop not in (ready := [fd for fd, _ in poll.poll()]):
            for fd in ready:
                _drain(fd, fds[fd], seen)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield seen
    finally:
        os.close(stopped)
        thread.join()
        for fd, path in fds.items():
            _drain(fd, path, seen)
            os.close(fd)
        os.close(stop)
