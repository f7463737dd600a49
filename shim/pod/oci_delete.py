"""Runs the OCI runtime's `delete` for a container whose pod server is gone, in a process without an event loop."""

import errno
import os
import sys
import time
from _signal import SIGKILL, SIGPIPE  # `signal` imports enum, which takes longer than all of this

from runtime.oci import argv

if False:  # typing.TYPE_CHECKING, without the import
    from collections.abc import Callable  # noqa: TC003 (this is such a block)

NO_PROCESS = (errno.EAGAIN, errno.ENOMEM)
NO_PROCESS_PAUSE_S = 0.05
ATTEMPTS = 3  # the OCI runtime may be killed, for lack of memory say, and containerd does not try again


def force(binary: argv.OCIBinary, container_id: str, *, until: float, is_moot: "Callable[[], bool]") -> bool:
    """Have the OCI runtime kill and delete the container by `until` (time.monotonic()).

    Its failures, and failures to run it, are written to standard error and otherwise ignored. Returns False, without
    another attempt, once `is_moot` returns true.
    """
    words = argv.command(binary, os.devnull, argv.delete(container_id, force=True))
    for _ in range(ATTEMPTS):
        if is_moot():
            return False
        try:
            pid = _begin(words, until)
        except OSError as err:
            sys.stderr.write(f"OCI runtime {words[0]}: not run: {err.strerror}\n")
            break
        if not os.WIFSIGNALED(_wait(pid, until)) or time.monotonic() > until:
            break
    return True


def _begin(words: list[str], until: float) -> int:
    """Start the OCI runtime, retrying while no process can be forked; return its PID. Raises OSError at `until`."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    while True:
        try:
            return os.posix_spawn(words[0], words, os.environ, file_actions=null, setsigdef=[SIGPIPE])
        except OSError as err:
            if err.errno not in NO_PROCESS or time.monotonic() > until:
                raise
        time.sleep(NO_PROCESS_PAUSE_S)


def _wait(pid: int, until: float) -> int:
    """Wait for the OCI runtime, but leave time for the rest of the work; return its wait status."""
    from runtime.linux import readable

    fd = os.pidfd_open(pid)
    try:
        if not readable.within(fd, until - time.monotonic()):
            os.kill(pid, SIGKILL)
        return os.waitpid(pid, 0)[1]
    finally:
        os.close(fd)
