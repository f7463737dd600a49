"""The wait before a process can be moved into a cgroup, started before there is a process to move.

A move takes a lock whose readers (fork, exec and exit) need no barrier as long as nobody moves anything, so the kernel
first waits for an RCU grace period: 5 to 30 ms, which an OCI runtime spends in its first write to cgroup.procs. After
one such wait, and for about as long again after each move, the next move does not wait (kernel/cgroup/cgroup.c,
cgroup_attach_lock; kernel/locking/percpu-rwsem.c; kernel/rcu/sync.c). A move into the same cgroup takes the lock, too.

The move here is that of a single thread, by its number. It moves the thread alone, so that it has no effect even if
somebody moves the process at the same moment. Writing 0 for the caller would not work: a thread that moves itself needs
no lock.
"""

import os
from _thread import get_native_id, start_new_thread
from contextlib import suppress

from runtime.cgroup import files
from runtime.oci.argv import OCIBinary

ROOT = "/sys/fs/cgroup"


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


def move_nowhere(root: str = ROOT, proc: str = "/proc") -> bool:
    """Move the calling thread into the cgroup that it is in. Return whether a hierarchy has accepted that."""
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
            os.write(fd, str(get_native_id()).encode())
        except OSError:
            continue
        finally:
            os.close(fd)
        return True
    return False
