"""Whether the process that listens at the other end of a connection lives, or was killed and is just exiting.

A killed process closes its descriptors one after the other: containerd may have lost its connection, and have called
`delete`, while the listening socket still accepts connections. Imports built-in modules only, for `delete`.
"""

import posix
import sys
from _socket import SO_PEERCRED, SOL_SOCKET, socket

_UCRED_BYTES = 12
_PF_EXITING = 0x4


def is_ending(connection: socket) -> bool:
    """Whether the process that listened for `connection` has begun to exit, or is gone (unix(7), SO_PEERCRED).

    A process in a PID namespace that is not visible here counts as alive.
    """
    pid = int.from_bytes(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, _UCRED_BYTES)[:4], sys.byteorder)
    return pid > 0 and not lives(pid)


def lives(pid: int) -> bool:
    """Whether process `pid` exists and has not begun to exit; a zombie has."""
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        stat = posix.read(fd, 1024)
    except ProcessLookupError:
        return False
    finally:
        posix.close(fd)
    state, *_, flags = stat[stat.rindex(b")") + 2 :].split()[:7]
    return state not in b"ZX" and not int(flags) & _PF_EXITING
