"""Command lines of any processes, those of containers among them.

Without a capability a process can make the kernel show any of its memory as its command line, even a terabyte that it
has never touched (PR_SET_MM_MAP of prctl(2)). So only as much is read as any command line of interest has.
"""

import os

LIMIT = 1 << 16
"""The most bytes that are read. The command lines of interest are OCI runtimes' and ours, with some paths each."""


def read(pid: str | int) -> bytes:
    """The first LIMIT bytes of /proc/PID/cmdline (proc_pid_cmdline(5)): words with a NUL after each. Raises OSError."""
    fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, LIMIT)
    finally:
        os.close(fd)
