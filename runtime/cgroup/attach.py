"""The wait before a process can be moved into a cgroup, begun before there is a process to move.

A move takes a lock whose readers (fork, exec and exit) need no barrier as long as nobody moves anything, so the kernel
first lets an RCU grace period pass: 5 to 30 ms, in which an OCI runtime waits in its first write to cgroup.procs. Once
one has passed, and for about as long again after each move, the next one need not wait (kernel/cgroup/cgroup.c,
cgroup_attach_lock; kernel/locking/percpu-rwsem.c; kernel/rcu/sync.c). A move to where one is takes the lock, too.

What moves is a thread by its number. It is the thread alone, so that nothing comes of it should somebody move the
process at this moment; and 0 for the caller would not do, because a thread that moves itself needs no lock.
"""

import os
from _thread import get_native_id, start_new_thread
from contextlib import suppress

from runtime.cgroup import files
from runtime.oci.argv import OCIBinary

ROOT = "/sys/fs/cgroup"


def is_unified(root: str = ROOT) -> bool:
    """Whether all there is on this host is cgroup v2."""
    return os.path.exists(f"{root}/cgroup.controllers")


def is_moved_by(runtime: OCIBinary, root: str = ROOT) -> bool:
    """Whether a container's first process is moved into its cgroup, be it by `runtime` or by systemd for it.

    On cgroup v2 alone, crun from 1.7 makes it there instead (clone3(2), CLONE_INTO_CGROUP), and would be held up.
    """
    return not is_unified(root) or runtime.systemd_cgroup or os.path.basename(runtime.path) != "crun"


def prime_migration() -> None:
    """Begin the wait now, in a thread of its own that ends with it; where none can be had, it is not begun."""
    with suppress(RuntimeError):
        start_new_thread(move_nowhere, ())


def move_nowhere(root: str = ROOT, proc: str = "/proc") -> bool:
    """Move the calling thread into the cgroup that it is in; return whether some hierarchy has let it."""
    for line in os.fsdecode(files.read(f"{proc}/thread-self", "cgroup") or b"").splitlines():
        _, controllers, path = line.split(":", 2)
        if path.startswith("/.."):  # above what this process's cgroup namespace shows
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
