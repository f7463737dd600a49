"""lxcfs: bind its files over those of /proc and /sys, so that `free`, `top` and `nproc` show the container's limits.

lxcfs is a FUSE file system of the node. After lxcfs crashed or was restarted its mount is still there: a bind of it
answers ENOTCONN for ever, and one whose daemon hangs blocks its reader, which no signal ends (fs/fuse/dev.c waits for
the reply to a request that the daemon has read). So nothing here touches the mount. mountinfo says whether it is there;
a separate program tries whether it answers, and is abandoned if it does not end in time:

    if is_mounted(mountinfo.around(MOUNT)):                   in the shim
        files = parse_probe(output of probe_command(sys.executable), or b"" where it did not end in PROBE_TIMEOUT_S)
    steps, warnings = plan(config.rich.lxcfs, files, points)  in the plan; points as in ModeInput.mounts

Known limits of lxcfs itself: a file bound into a running container is lost when its daemon ends, and programs that call
sysinfo(2) do not see lxcfs' values (busybox's free).
"""

from collections.abc import Sequence

from runtime.init.base import MountPoint, covers
from runtime.linux.mountinfo import MountEntry
from runtime.spec.edit import Edit, Step

MOUNT = "/var/lib/lxcfs"
FILES = (
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/loadavg",
    "proc/meminfo",
    "proc/slabinfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "sys/devices/system/cpu/online",
)
"""The files that are bound. In /proc these are the files over which runc allows a mount (libcontainer/rootfs_linux.go,
checkProcMount): not /proc/pressure, which lxcfs 6 offers too."""

PROBE_TIMEOUT_S = 2.0
_PROBE = """
import os, sys
root, *names = sys.argv[1:]
for name in names:
    try:
        with open(f"{root}/{name}", "rb") as file:
            answered = bool(file.read(65536)) or name == "proc/swaps"
        if answered and os.path.exists(f"/{name}"):
            print(name, flush=True)
    except OSError:
        pass
print("done", flush=True)
"""


def is_mounted(entries: Sequence[MountEntry], path: str = MOUNT) -> bool:
    """Whether lxcfs is what is mounted at `path`: the last entry of a mount point is the topmost mount."""
    there = [entry.fstype for entry in entries if entry.mount_point == path]
    return bool(there) and there[-1] == "fuse.lxcfs"


def probe_command(python: str, path: str = MOUNT) -> list[str]:
    """The program that reads each file once and prints the names of those that answered; `python` is absolute.

    It imports nothing but os and sys. If it hangs in the kernel it cannot be killed: send SIGKILL, do not wait.
    """
    return [python, "-I", "-S", "-c", _PROBE, path, *FILES]


def parse_probe(output: bytes) -> tuple[str, ...]:
    """The files that answered; none where the program did not finish."""
    words = output.decode("ascii", "replace").splitlines()
    return tuple(name for name in FILES if name in words) if words[-1:] == ["done"] else ()


def _skipped(name: str, points: Sequence[MountPoint]) -> str | None:
    """Why the file is not bound over /NAME, or None.

    /NAME must lie in the container's own /proc or /sys, with no mount of the pod over it. `points` are the spec's
    mounts in order.
    """
    target, fstype = f"/{name}", "proc" if name.startswith("proc/") else "sysfs"
    above = None
    for point in points:
        if covers(target, point.resolved):
            return f"lxcfs: {target}: the pod mounts something there"
        if covers(point.resolved, target):
            above = point
    if above is None or above.mount.get("type") != fstype:
        return f"lxcfs: {target}: it is not in a {fstype} file system of the container's own"
    return None


def _step(name: str, path: str) -> Step:
    mount = {
        "destination": f"/{name}",
        "type": "bind",
        "source": f"{path}/{name}",
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    }
    return Step(f"mount-lxcfs-{name.rpartition('/')[2]}", f"bind lxcfs's /{name}", Edit("with_mount", mount))


def plan(
    wanted: bool | None, files: Sequence[str], points: Sequence[MountPoint], *, mounted: bool = True, path: str = MOUNT
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The binds and the warnings for `rich.lxcfs`: true, false, or None for "auto".

    `files` are those that answered (`parse_probe`), `mounted` is the result of `is_mounted`. A missing lxcfs is a
    warning only where it was asked for; an lxcfs that is mounted but dead always is one. It is never a reason to refuse
    a container.
    """
    if wanted is False:
        return (), ()
    if not mounted:
        missing = f"lxcfs: found no fuse.lxcfs mount at {path}, skipped"
        return (), (missing,) if wanted else ()
    if not files:
        return (), (f"lxcfs: {path} does not answer, skipped; it may have been stopped or restarted",)
    reasons = {name: _skipped(name, points) for name in FILES if name in files}
    steps = tuple(_step(name, path) for name, reason in reasons.items() if reason is None)
    return steps, tuple(reason for reason in reasons.values() if reason is not None)
