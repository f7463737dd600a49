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
_DESCRIPTORS = 200_000
"""How many descriptors `used` looks at; 200,000 take about a second."""
_DESCRIPTORS_OF_ONE = 50_000
"""How many of one process, so that one process with a million does not keep the others from being counted."""
_WATCHES_READ = 1_000_000
"""After so many watches `used` reads no further instance's watches. One instance can have all of a user's watches."""


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
    """The warnings for the Create of a systemd while `found` instances are left (`instances_left`).

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
    """Instances and watches that the node's processes hold, or at least so many unless `is_whole`."""

    instances: int = 0
    watches: int = 0
    is_whole: bool = True

    def describe(self, count: int) -> str:
        """What to say of `count`, one of the two counts."""
        return f"{count} in use" if self.is_whole else f"at least {count} in use; not all descriptors were counted"


def used(*, proc: str = "/proc") -> Used:
    """Count the instances and watches by reading the descriptors of every process, so only for `doctor`.

    What may not be read is not counted. The counts include other users, which a node has hardly any of; a descriptor
    that two processes share counts twice. A pod can hold a million descriptors, and share them with many processes, so
    the number of descriptors and watches that are read is limited. Raises OSError where `proc` cannot be listed.
    """
    instances = watches = looked_at = 0
    is_whole = True
    for pid in filter(str.isdigit, os.listdir(proc)):
        looked_at += 1  # a process without descriptors takes time too
        for number, fd in enumerate(_descriptors(f"{proc}/{pid}")):
            if looked_at >= _DESCRIPTORS:
                return Used(instances, watches, False)
            if number >= _DESCRIPTORS_OF_ONE:
                is_whole = False
                break
            looked_at += 1
            if not _is_instance(fd):
                continue
            instances += 1
            if watches < _WATCHES_READ:
                watches += _watches(f"{proc}/{pid}/fdinfo/{os.path.basename(fd)}")
            else:
                is_whole = False
    return Used(instances, watches, is_whole)


def _descriptors(process: str) -> Iterator[str]:
    # Not os.listdir, which would read the names of a million descriptors before the first one is looked at.
    with suppress(OSError), os.scandir(f"{process}/fd") as entries:
        for entry in entries:
            yield entry.path


def _is_instance(fd: str) -> bool:
    try:
        return os.readlink(fd) == _ENTRY
    except OSError:
        return False


def _watches(fdinfo: str) -> int:
    with suppress(OSError), open(fdinfo, "rb") as file:
        return sum(line.startswith(b"inotify wd:") for line in file)
    return 0
