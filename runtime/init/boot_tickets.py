"""The node's queue for boots: one file per boot in /run/pouchrich/boot, with names in the order of arrival.

Each boot holds a lock on its file. The kernel releases the lock with the process, so a killed pod server holds nobody
up. The first few living tickets may boot and the others wait. There is no server, and nothing needs repair. Containers
do not see the directory.
"""

import fcntl
import os
import time
from contextlib import suppress

from runtime import directories, paths

WAITING, BOOTING = "waiting to boot", "booting"
_LOCKING = ".new-"


class Ticket:
    """One boot's place in the queue. `subject` is containerd's namespace and the container's id. Raises OSError.

    Nothing here blocks.
    """

    def __init__(self, subject: tuple[str, str], *, root: str = paths.BOOTS) -> None:
        self._subject = subject
        self._root = root
        with suppress(FileExistsError):
            directories.make(root, mode=0o700)
        making = f"{root}/{_LOCKING}{os.getpid()}-{time.monotonic_ns()}"
        self._fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Lock the file before it has a name in the queue: an unlocked file there belongs to a dead process.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._say(WAITING)
            self._name = f"{time.monotonic_ns():020d}-{os.getpid()}"
            os.rename(making, f"{root}/{self._name}")
        except BaseException:
            with suppress(OSError):
                os.unlink(making)
            os.close(self._fd)
            raise

    def ahead(self) -> int:
        """How many tickets were taken before this one, dead ones included. Raises OSError."""
        return sum(1 for name in _names(self._root) if name < self._name)

    def may_boot(self, at_once: int) -> bool:
        """Whether fewer than `at_once` living tickets are ahead; if so, this ticket's state becomes BOOTING.

        Removes dead tickets. Raises OSError.
        """
        living = 0
        for name in _names(self._root):
            if name >= self._name:
                break
            living += _is_alive(f"{self._root}/{name}")
            if living >= at_once:
                return False
        self._say(BOOTING)
        return True

    def close(self) -> None:
        """Leave the queue. May be repeated."""
        if self._fd >= 0:
            with suppress(OSError):
                os.unlink(f"{self._root}/{self._name}")
            os.close(self._fd)
            self._fd = -1

    def _say(self, state: str) -> None:
        text = "\n".join((state, *self._subject)).encode()
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))


def _names(root: str) -> list[str]:
    return sorted(name for name in os.listdir(root) if not name.startswith(_LOCKING))


def _is_alive(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return False
    finally:
        os.close(fd)


def states(*, root: str = paths.BOOTS) -> dict[tuple[str, str], str]:
    """WAITING or BOOTING for each container in the queue, by containerd's namespace and the id. Raises OSError."""
    found = {}
    with suppress(FileNotFoundError):
        for name in _names(root):
            with suppress(FileNotFoundError, ValueError), open(f"{root}/{name}", encoding="utf-8") as file:
                state, namespace, container_id = file.read(4096).split("\n")
                if _is_alive(f"{root}/{name}"):
                    found[namespace, container_id] = state
    return found
