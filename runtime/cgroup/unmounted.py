"""The cgroup v2 tree of a host that only mounts cgroup v1.

The unified hierarchy exists whether or not it is mounted (cgroup-v2.rst, "Mounting"; since Linux 4.5), without any
controller that v1 has taken. That is all that systemd needs to track its units, and unlike v1's name=systemd it can be
bounded: it has cgroup.max.descendants and cgroup.max.depth, and no notify_on_release.

This module mounts the tree only for a descriptor and attaches the mount nowhere. A container has two levels: the upper
has the limits, and the lower, `INNER`, is the root of the container's cgroup namespace. All paths are from the root of
that mount, which is the cgroup of this process (`home`).
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from runtime.cgroup import files, tree
from runtime.errors import RuntimeFailed
from runtime.linux import detached, syscalls

INNER = "pouchrich"
CLEAR_S = 1.0


def make(path: str, *, descendants: int, depth: int) -> None:
    """Make both levels of `path`, with limits, replacing what a container of that name has left. Raises OSError."""
    with mounted() as root:
        upper = root + path
        with suppress(FileNotFoundError):
            _clear(upper, until=time.monotonic() + CLEAR_S)
        with suppress(FileExistsError):
            os.mkdir(upper, 0o755)
        files.write(f"{upper}/cgroup.max.descendants", str(descendants))
        files.write(f"{upper}/cgroup.max.depth", str(depth))
        with suppress(FileExistsError):
            os.mkdir(f"{upper}/{INNER}", 0o755)


def give(path: str, owner: tuple[int, int], names: tuple[str, ...]) -> None:
    """Make `owner` (uid, gid) the owner of the lower level and of its files `names`. Raises OSError."""
    with mounted() as root:
        inner = f"{root}{path}/{INNER}"
        os.chown(inner, *owner)
        for name in names:
            with suppress(FileNotFoundError):
                os.chown(f"{inner}/{name}", *owner)


def open_procs(path: str) -> int:
    """cgroup.procs of the lower level, open for writing. The caller owns the descriptor. Raises OSError."""
    with mounted() as root:
        return os.open(f"{root}{path}/{INNER}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)


def check(path: str, pid: int, *, proc: str = "/proc") -> None:
    """Raise RuntimeFailed unless host process `pid`, which has not been started yet, is in the lower level.

    Its cgroup namespace begins where it is; from any level above, the container could write to what is not its own.
    """
    expected = f"{home(proc).rstrip('/')}{path}/{INNER}"
    found = _path_of(f"{proc}/{pid}")
    if found != expected:
        raise RuntimeFailed(f"the OCI runtime left the container in cgroup v2 {found or 'none'}, not in {expected}")


def end(path: str) -> None:
    """After the end of PID 1 and its PID namespace: kill what else is in the lower level. Raises nothing.

    That is an OCI runtime that was about to execute something and no longer can. The container may have frozen it.
    """
    with suppress(OSError), mounted() as root:
        inner = f"{root}{path}/{INNER}"
        try:
            files.write(f"{inner}/cgroup.kill", "1")
        except OSError:  # before Linux 5.14; once thawed, the OCI runtime fails by itself
            files.write(f"{inner}/cgroup.freeze", "0")


def remove(path: str, *, patience_s: float) -> bool:
    """Remove both levels and all below them, and kill what is still there. Return whether nothing is left.

    Takes no longer than `patience_s` seconds and one step.
    """
    try:
        with mounted() as root:
            return _clear(root + path, until=time.monotonic() + patience_s)
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _clear(upper: str, *, until: float) -> bool:
    os.stat(upper)
    with suppress(OSError):
        files.write(f"{upper}/cgroup.kill", "1")  # Linux 5.14; before, the processes die with their PID namespace
    return tree.remove(upper, until=until)


@contextmanager
def mounted() -> Iterator[str]:
    """A path to the root of such a mount while the context lasts. Raises OSError where the kernel has no cgroup v2."""
    fd = _mount()
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _mount() -> int:
    """The descriptor of a new mount. Raises OSError.

    A mount in the initial cgroup namespace sets the options of the whole hierarchy, such as nsdelegate
    (kernel/cgroup/cgroup.c, apply_cgroup_root_flags), so a short-lived thread mounts in a new cgroup namespace.
    """
    found: list[int] = []
    failed: list[OSError] = []

    def mount() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWCGROUP)
            attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
            found.append(detached.mount("cgroup2", attributes))
        except OSError as err:
            failed.append(err)

    thread = threading.Thread(target=mount)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def home(proc: str = "/proc") -> str:
    """The cgroup of this process in the tree, which is the root of a mount that `mounted` makes."""
    return _path_of(f"{proc}/self")


def _path_of(directory: str) -> str:
    lines = (files.read(directory, "cgroup") or b"").decode(errors="surrogateescape").splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
