"""The OCI runtime's `delete` of a container whose pod server has gone, by a process without an event loop."""

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
ATTEMPTS = 3  # where the runtime itself is killed, for want of memory say: containerd will not come back to this


def force(binary: argv.OCIBinary, container_id: str, *, until: float, is_moot: "Callable[[], bool]") -> bool:
    """Have the runtime kill and forget the container by `until` (time.monotonic()); what it says does not count.

    Nor does whether it can be run: standard error is told. False, without another attempt, where it `is_moot` by now.
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
    """The pid of the runtime, begun once there is a process to be had for it. Raises OSError where there is none."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    while True:
        try:
            return os.posix_spawn(words[0], words, os.environ, file_actions=null, setsigdef=[SIGPIPE])
        except OSError as err:
            if err.errno not in NO_PROCESS or time.monotonic() > until:
                raise
        time.sleep(NO_PROCESS_PAUSE_S)


def _wait(pid: int, until: float) -> int:
    """Wait for the runtime, but leave time for the rest of the work; return its wait status."""
    from runtime.linux import readable

    fd = os.pidfd_open(pid)
    try:
        if not readable.within(fd, until - time.monotonic()):
            os.kill(pid, SIGKILL)
        return os.waitpid(pid, 0)[1]
    finally:
        os.close(fd)
