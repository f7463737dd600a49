"""The wait before a process can be moved into a cgroup, started before there is a process to move.

A move takes a lock whose readers (fork, exec and exit) need no barrier as long as nobody moves anything, so the kernel
first waits for an RCU grace period: 5 to 30 ms, which an OCI runtime spends in its first write to cgroup.procs. After
one such wait, and for about as long again after each move, the next move does not wait (kernel/cgroup/cgroup.c,
cgroup_attach_lock; kernel/locking/percpu-rwsem.c; kernel/rcu/sync.c). A move into the same cgroup takes the lock, too.

The move here is that of a single thread, by its number. It moves the thread alone, so that it has no effect even if
somebody moves the process at the same moment. Writing 0 for the caller would not work: a thread that moves itself needs
no lock.
"""

import math
import os
import time
from _thread import get_native_id, start_new_thread
from collections.abc import Callable
from contextlib import suppress

from runtime.cgroup import files
from runtime.oci.argv import OCIBinary

ROOT = "/sys/fs/cgroup"

PAUSE_S = 0.004
"""Shorter than most grace periods, so that the next move finds the window of the last one open."""

KEPT_OPEN_S = 0.1
"""Until the next container's first process has been moved, if that container follows at once."""


def is_unified(root: str = ROOT) -> bool:
    """Whether this host has cgroup v2 alone."""
    return os.path.exists(f"{root}/cgroup.controllers")


def is_moved_by(runtime: OCIBinary, root: str = ROOT) -> bool:
    """Whether a container's first process is moved into its cgroup, by `runtime` itself or by systemd for it.

    On cgroup v2 alone, crun from 1.7 creates the process there instead (clone3(2), CLONE_INTO_CGROUP); starting the
    wait would only delay it.
    """
    return not is_unified(root) or runtime.systemd_cgroup or os.path.basename(runtime.path) != "crun"


def prime_migration() -> None:
    """Start the wait in a thread of its own, which ends with the wait. Nothing happens where no thread can be had."""
    with suppress(RuntimeError):
        start_new_thread(move_nowhere, ())


class MigrationWindow:
    """The time in which moves do not wait, kept open from one container of a pod to the next.

    A kubelet creates a pod's containers one after another, each some 10 ms after the one before has started. Without
    this, the window of the last move closes just then.
    """

    def __init__(self) -> None:
        self._opened = 0

    def open(self) -> None:
        """Start the wait for a container that is about to be created, and keep it over for KEPT_OPEN_S.

        Where that takes CPU time from others it stops early. As `prime_migration` otherwise. May be repeated; the
        thread of the former call then ends.
        """
        self._opened += 1
        with suppress(RuntimeError):
            start_new_thread(self._keep_open, (self._opened,))

    def close(self) -> None:
        """Let the thread end, at the latest with the wait."""
        self._opened += 1

    def _keep_open(self, number: int) -> None:
        end, last = time.monotonic() + KEPT_OPEN_S, math.inf

        def again() -> bool:
            nonlocal last
            before, last = last, time.monotonic()
            is_in_time = last - before < 2 * PAUSE_S  # else all CPUs are busy, or the window had closed
            return self._opened == number and last < end and is_in_time

        move_nowhere(again)


def move_nowhere(again: Callable[[], bool] = lambda: False, *, root: str = ROOT, proc: str = "/proc") -> bool:
    """Move the calling thread into the cgroup that it is in, and every PAUSE_S once more while `again()`.

    Return whether a hierarchy has accepted that.
    """
    thread = str(get_native_id()).encode()
    for line in os.fsdecode(files.read(f"{proc}/thread-self", "cgroup") or b"").splitlines():
        _, controllers, path = line.split(":", 2)
        if path.startswith("/.."):  # outside of this process's cgroup namespace
            continue
        hierarchy = f"{root}/{controllers.removeprefix('name=')}" if controllers else root
        name = "tasks" if controllers else "cgroup.threads"
        try:
            fd = os.open(f"{hierarchy}{path.rstrip('/')}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            os.write(fd, thread)
            while again():
                time.sleep(PAUSE_S)
                os.write(fd, thread)
        except OSError:
            continue
        finally:
            os.close(fd)
        return True
    return False
