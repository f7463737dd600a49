"""Command lines of any processes, those of containers among them.

A process has the kernel show any of its memory there, a terabyte that it has never touched too, without a capability
(PR_SET_MM_MAP of prctl(2)); so no more is read than is ever looked for.
"""

import os

LIMIT = 1 << 16
"""Bytes. What we look for are OCI runtimes' and our own, of some paths each."""


def read(pid: str | int) -> bytes:
    """The first LIMIT bytes of /proc/PID/cmdline (proc_pid_cmdline(5)): words with a NUL after each. Raises OSError."""
    fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, LIMIT)
    finally:
        os.close(fd)
