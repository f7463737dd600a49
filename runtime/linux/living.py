"""A process by its pid and start time, which no later process has both of, as text that can be kept in a file."""

import os

_PF_EXITING = 0x4  # <linux/sched.h>
_OWN_PIDS = "/proc/self/ns/pid"


def mark(pid: int) -> str:
    """What to ask `lives` of later. Raises OSError where the process is gone."""
    return f"{pid} {_words(pid)[19].decode()} {os.readlink(_OWN_PIDS)}"


def lives(marked: str) -> bool:
    """Whether the process is there and has not begun to exit; a zombie has. Raises ValueError for what is no mark.

    One in a pid namespace that is not this one's is taken for alive.
    """
    pid, start, pids = marked.split(" ")
    if pids != os.readlink(_OWN_PIDS):
        return True
    try:
        words = _words(int(pid))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return words[19].decode() == start and words[0] not in (b"Z", b"X") and not int(words[6]) & _PF_EXITING


def _words(pid: int) -> list[bytes]:
    """Of /proc/PID/stat (proc_pid_stat(5)), from field 3, the state, on."""
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        stat = os.read(fd, 1024)
    finally:
        os.close(fd)
    return stat[stat.rindex(b")") + 2 :].split()
