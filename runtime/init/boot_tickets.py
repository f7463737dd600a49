"""The node's queue for boots: one file per boot in /run/pouchrich/boot, with names in the order of arrival.

Each boot holds a lock on its file. The kernel releases the lock with the process, so a killed pod server holds nobody
up. There is no server, and nothing needs repair. Containers do not see the directory.

The tenants, which are Kubernetes namespaces, take turns: first comes who has waited longest for a boot of its own, and
within a tenant who has arrived first. So that a tenant whose boots are many and slow does not keep the others out, one
of which nothing boots may have a place beyond the usual number; of such places there are half as many again.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from runtime import directories, paths
from runtime.spec.tenant import tenant_of

WAITING, BOOTING = "waiting to boot", "booting"
_LOCKING, _LAST = ".new-", ".last-"
_FORGOTTEN_NS = 600 * 10**9
"""After this time without a boot a tenant is taken for one that has had none."""


class Ticket:
    """One boot's place in the queue. `subject` is containerd's namespace and the container's id. Raises OSError.

    `tenant` is the pod's Kubernetes namespace, or containerd's without one. Nothing here blocks.
    """

    def __init__(self, subject: tuple[str, str], tenant: str = "", *, root: str = paths.BOOTS) -> None:
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
            self._tenant = tenant_of(tenant)
            self._name = f"{time.monotonic_ns():020d}-{os.getpid()}" + (self._tenant and f".{self._tenant}")
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
        """Whether fewer than `at_once` boots are before this one; if so, this ticket's state becomes BOOTING.

        Where the tenant has no ticket before this one, only what boots and other tenants' first tickets count, and the
        places beyond `at_once` too. Two that look at the same moment can both find room for the last place. Removes
        dead tickets. Raises OSError.
        """
        last = _last_boots(self._root)
        tenants: dict[str, list[str]] = {self._tenant: []}
        for name in _names(self._root):
            tenants.setdefault(name.partition(".")[2], []).append(name)
        earlier = [name for name in tenants.pop(self._tenant) if name < self._name]
        own = [self._state(name) for name in islice(self._living(earlier), at_once)]
        turn = (last.get(self._tenant, 0), own.count(WAITING), self._name)
        others = [
            list(islice(self._before(turn, names, last.get(tenant, 0)), at_once)) for tenant, names in tenants.items()
        ]
        if own:
            has_room = len(own) + sum(map(len, others)) < at_once
        else:
            taken = sum(states.count(BOOTING) + (states[:1] == [WAITING]) for states in others)
            has_room = taken < at_once + max(1, at_once // 2)
        if not has_room:
            return False
        self._say(BOOTING)
        _note_boot(self._root, self._tenant)
        return True

    def _before(self, turn: tuple[int, int, str], names: list[str], last: int) -> Iterator[str]:
        """The states of another tenant's tickets `names` that boot or come before `turn`; `last` is its last boot."""
        waiting = 0
        for name in self._living(names):
            state = self._state(name)
            if state == WAITING:
                if (last, waiting, name) > turn:
                    return
                waiting += 1
            yield state

    def _state(self, name: str) -> str:
        try:
            with open(f"{self._root}/{name}", encoding="utf-8") as file:
                return file.read(4096).partition("\n")[0]
        except FileNotFoundError:
            return ""

    def _living(self, names: list[str]) -> Iterator[str]:
        return (name for name in names if _is_alive(f"{self._root}/{name}"))

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
    return sorted(name for name in os.listdir(root) if not name.startswith("."))


def _last_boots(root: str) -> dict[str, int]:
    """When the last boot of each tenant began, by the monotonic clock in nanoseconds. Raises OSError."""
    found = {}
    for name in os.listdir(root):
        if name.startswith(_LAST):
            with suppress(FileNotFoundError):
                at = os.stat(f"{root}/{name}").st_mtime_ns
                if time.monotonic_ns() - at < _FORGOTTEN_NS:
                    found[name.removeprefix(_LAST)] = at
                else:
                    os.unlink(f"{root}/{name}")
    return found


def _note_boot(root: str, tenant: str) -> None:
    now = time.monotonic_ns()
    fd = os.open(f"{root}/{_LAST}{tenant}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.utime(fd, ns=(now, now))
    finally:
        os.close(fd)


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
