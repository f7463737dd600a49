"""Whether the node has inotify instances left for one more systemd and for a restart of the node's own daemons.

The kernel counts instances by user (inotify(7)), and all systemds of a node are root's: those in a user namespace are
also charged to the namespace's creator (ucounts; measured on Linux 6.18). The default limit is 128, a systemd with its
services takes four to seven, and without one left neither the kubelet nor containerd's CRI starts again: the node is
lost at the next restart.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from runtime.errors import FailedPrecondition

INSTANCES = "fs.inotify.max_user_instances"
WATCHES = "fs.inotify.max_user_watches"
PER_SYSTEMD = 6
RESERVE = 16
"""Instances for the kubelet, containerd, and whatever else the node starts."""
WANTED = {INSTANCES: 8192, WATCHES: 524288}
DROP_IN = "/etc/sysctl.d/90-pouchrich.conf"

_ENTRY = "anon_inode:inotify"


def drop_in() -> str:
    """The content of DROP_IN."""
    return "".join(f"{name} = {value}\n" for name, value in WANTED.items())


def instances_left(at_most: int = PER_SYSTEMD + RESERVE) -> int:
    """How many instances this process's user can still have, counted up to `at_most`.

    The instances are made and closed again: that is the only reliable answer, and takes some 40 microseconds. Also
    `at_most` where another error prevents the count.
    """
    init1 = ctypes.CDLL(None, use_errno=True).inotify_init1
    made: list[int] = []
    try:
        while len(made) < at_most:
            fd = init1(os.O_CLOEXEC)
            if fd < 0:
                # EMFILE can also mean that this process has too many descriptors; then it cannot open anything.
                return len(made) if ctypes.get_errno() == errno.EMFILE and _can_open() else at_most
            made.append(fd)
        return at_most
    finally:
        for fd in made:
            os.close(fd)


def _can_open() -> bool:
    try:
        os.close(os.open("/", os.O_PATH | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def warn_or_refuse(found: int, policy: str, *, source: str) -> tuple[str, ...]:
    """The warnings for the Create of a systemd while `found` instances are left (`left`).

    `policy` is `warn` or `refuse`, and `source` names where it is set. Raises FailedPrecondition for `refuse`.
    """
    if found >= PER_SYSTEMD + RESERVE:
        return ()
    words = (
        f"{INSTANCES}: found {found} instances left for root, allowed at least {PER_SYSTEMD + RESERVE}: a systemd takes"
        f" {PER_SYSTEMD}, and the kubelet and containerd need some of the others to start again; raise the limit (see"
        f" pouchrich doctor)"
    )
    if policy == "refuse":
        raise FailedPrecondition(f"{words}; {source}")
    return (words,)


def limit(name: str, *, proc: str = "/proc") -> int | None:
    """The value of the sysctl `name` (dotted), None where there is none."""
    with suppress(OSError, ValueError), open(f"{proc}/sys/{name.replace('.', '/')}", encoding="ascii") as file:
        return int(file.read())
    return None


class Used(NamedTuple):
    """Instances and watches that the node's processes hold."""

    instances: int = 0
    watches: int = 0


def used(*, proc: str = "/proc") -> Used:
    """Count the instances and watches by reading every descriptor of every process, so only for `doctor`.

    What may not be read is not counted. The counts include other users, which a node has hardly any of; a descriptor
    that two processes share counts twice.
    """
    instances = watches = 0
    for pid in (name for name in os.listdir(proc) if name.isdigit()):
        for path in _instances(f"{proc}/{pid}"):
            with suppress(OSError), open(path, encoding="ascii") as file:
                watches += file.read().count("inotify wd:")
                instances += 1
    return Used(instances, watches)


def _instances(process: str) -> Iterator[str]:
    with suppress(OSError):
        for fd in os.listdir(f"{process}/fd"):
            with suppress(OSError):
                if os.readlink(f"{process}/fd/{fd}") == _ENTRY:
                    yield f"{process}/fdinfo/{fd}"
