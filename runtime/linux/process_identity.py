"""A process's identity, its PID and start time, as text for a file. No later process has the same two."""

import os

_PF_EXITING = 0x4  # <linux/sched.h>
_OWN_PIDS = "/proc/self/ns/pid"


def identity_of(pid: int) -> str:
    """The identity of process `pid`, for `is_alive`. Raises OSError where the process is gone."""
    return f"{pid} {_words(_stat(pid))[19].decode()} {os.readlink(_OWN_PIDS)}"


def is_alive(marked: str) -> bool:
    """Whether the process exists and has not begun to exit. Raises ValueError for text that `identity_of` did not make.

    A process of another PID namespace is taken for alive.
    """
    pid, start, pids = marked.split(" ")
    if pids != os.readlink(_OWN_PIDS):
        return True
    try:
        stat = _stat(int(pid))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return _words(stat)[19].decode() == start and not is_exiting(stat)


def is_exiting(stat: bytes) -> bool:
    """Whether the process with the /proc/PID/stat `stat` has begun to exit, as a zombie has (proc_pid_stat(5))."""
    state, *_, flags = _words(stat)[:7]
    return state in b"ZX" or bool(int(flags) & _PF_EXITING)


def _words(stat: bytes) -> list[bytes]:
    """The fields from field 3, the state, on."""
    return stat[stat.rindex(b")") + 2 :].split()


def _stat(pid: int) -> bytes:
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1024)
    finally:
        os.close(fd)
