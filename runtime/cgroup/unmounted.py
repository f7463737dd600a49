"""A cgroup v2 tree on a host with cgroup v1 alone: nothing shows it, but the kernel has it all the same.

The unified hierarchy exists whether or not it is mounted (cgroup-v2.rst, "Mounting"; since Linux 4.5), without any
controller that v1 has taken. That is all systemd needs to keep its units apart, and unlike v1's name=systemd it can be
bounded: cgroup.max.descendants and cgroup.max.depth are the kernel's, and there is no notify_on_release.

Here it is mounted for a descriptor alone, attached nowhere. Of a container's two levels the upper has the limits; the
lower, `INNER`, is the root of the container's cgroup namespace. All paths are from the tree's root, as in
/proc/PID/cgroup.
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
    """Make both levels of `path`, bounded, in place of what a container of that name has left. Raises OSError."""
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
    """Make the lower level and its files `names` the property of `owner`. Raises OSError."""
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
    """Raise RuntimeFailed unless host process `pid`, which has not run yet, is in the lower level.

    Where it is its cgroup namespace begins; from anywhere above the container could write to what is not its own.
    """
    expected = f"{home(proc).rstrip('/')}{path}/{INNER}"
    found = _path_of(f"{proc}/{pid}")
    if found != expected:
        raise RuntimeFailed(f"the OCI runtime left the container in cgroup v2 {found or 'none'}, not in {expected}")


def end(path: str) -> None:
    """PID 1 has ended, and with it its pid namespace: end what else is in the lower level. Raises nothing.

    That is an OCI runtime which was to execute something, and cannot any more. The container may have frozen it.
    """
    with suppress(OSError), mounted() as root:
        inner = f"{root}{path}/{INNER}"
        try:
            files.write(f"{inner}/cgroup.kill", "1")
        except OSError:  # before Linux 5.14; once it is thawed it fails by itself
            files.write(f"{inner}/cgroup.freeze", "0")


def remove(path: str, *, patience_s: float) -> bool:
    """Remove both levels and all below, and kill whoever is there still. Return whether nothing is left.

    It takes no longer than `patience_s` and one step.
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
        files.write(f"{upper}/cgroup.kill", "1")  # Linux 5.14; before, they die with their pid namespace
    return tree.remove(upper, until=until)


@contextmanager
def mounted() -> Iterator[str]:
    """A path of the tree's root while the context lasts. Raises OSError where the kernel has no cgroup v2."""
    fd = _mount()
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _mount() -> int:
    """Mounting sets the options of the whole hierarchy, nsdelegate for one, unless it is done outside of the first
    cgroup namespace (kernel/cgroup/cgroup.c, apply_cgroup_root_flags): so a thread that goes away leaves that first.
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
    """Where this process is in the tree, which is what a mount of its own shows as the root."""
    return _path_of(f"{proc}/self")


def _path_of(directory: str) -> str:
    lines = (files.read(directory, "cgroup") or b"").decode(errors="surrogateescape").splitlines()
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
