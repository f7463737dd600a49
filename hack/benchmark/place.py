"""The place of the measurements: private namespaces, bundles as containerd makes them, and no trace afterwards.

The mount namespace has an empty /run (so sockets, runtime states and bundles are private), and on a hybrid host no v2
hierarchy, because crun before 1.9 refuses a host that has both. The process is a subreaper: it finds every process that
a shim leaves behind among its descendants, and ends them at the end.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36
UNIFIED = "/sys/fs/cgroup/unified"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: str, fstype: str, options: str = "", flags: int = 0) -> None:
    """mount(2). Raises OSError."""
    _check(_libc.mount(source.encode(), target.encode(), fstype.encode(), flags, options.encode()), f"mount {target}")


def enter() -> None:
    """Enter the namespaces described above. Raises OSError."""
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", "/", "", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", "/run", "tmpfs", "mode=0755")
    if os.path.ismount(UNIFIED):
        # Mount over it instead of unmounting it: crun makes directories there, which would else be on the host.
        mount("tmpfs", UNIFIED, "tmpfs", "mode=0755")
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


@dataclass(frozen=True, slots=True)
class Bundle:
    """One container's directory, and the overlay that its Create mounts."""

    id: str
    path: Path
    overlay_options: tuple[str, ...]
    log: int
    """The shim's log FIFO, kept open as containerd does; a shim may wait for it."""

    @property
    def rootfs(self) -> str:
        return f"{self.path}/rootfs"

    def remove(self) -> None:
        """Remove what containerd would remove."""
        os.close(self.log)
        shutil.rmtree(self.path, ignore_errors=True)
        upper = next(option for option in self.overlay_options if option.startswith("upperdir="))
        shutil.rmtree(os.path.dirname(upper.removeprefix("upperdir=")), ignore_errors=True)


class Place:
    """`base` holds bundles and layers; `cgroup` is the parent of every container, like `/name`."""

    def __init__(self) -> None:
        self.base = Path("/run/bench")
        self.cgroup = f"/pouchrich-bench-{os.getpid()}"
        self._serial = 0
        (self.base / "bundles").mkdir(parents=True)
        self.lower = self.base / "lower"
        self._fill(self.lower)
        self.make_cgroup(self.cgroup)

    def _fill(self, lower: Path) -> None:
        busybox = shutil.which("busybox")
        if busybox is None:
            raise FileNotFoundError("busybox: not installed (apt-get install busybox-static)")
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "run", "root"):
            (lower / name).mkdir(parents=True)
        shutil.copy2(busybox, lower / "bin" / "busybox")
        for applet in ("sh", "true", "cat", "sleep", "head", "dd"):
            (lower / "bin" / applet).symlink_to("busybox")
        (lower / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (lower / "etc" / "group").write_text("root:x:0:\n")

    def make_cgroup(self, name: str) -> None:
        """Create `name` in every v1 hierarchy, or in the unified one."""
        for root in _hierarchies():
            path = Path(root + name)
            path.mkdir(exist_ok=True)
            for knob in ("cpuset.cpus", "cpuset.mems"):
                if (path / knob).exists() and Path(root, knob).exists() and not (path / knob).read_text().strip():
                    (path / knob).write_text(Path(root, knob).read_text())

    def bundle(self, args: list[str], *, rich: bool) -> Bundle:
        """A new bundle whose container runs `args` as root."""
        self._serial += 1
        name = f"bench-{os.getpid()}-{self._serial}"
        path = self.base / "bundles" / name
        path.mkdir(mode=0o711)
        (path / "rootfs").mkdir(mode=0o711)
        os.mkfifo(path / "log", 0o700)
        layer = self.base / "layers" / name
        for part in ("upper", "work"):
            (layer / part).mkdir(parents=True)
        options = (f"lowerdir={self.lower}", f"upperdir={layer}/upper", f"workdir={layer}/work")
        (path / "config.json").write_text(json.dumps(spec(args, f"{self.cgroup}/{name}", rich=rich)))
        log = os.open(path / "log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return Bundle(name, path, options, log)

    def close(self) -> None:
        """End every process below this one and remove the cgroups."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            reap()
            children = descendants(os.getpid())
            if not children:
                break
            self._thaw()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        for root in _hierarchies():
            for path in sorted(Path(root).glob(self.cgroup[1:] + "/**/"), key=lambda found: -len(str(found))):
                with contextlib.suppress(OSError):
                    path.rmdir()

    def _thaw(self) -> None:
        """Thaw frozen cgroups: a frozen process cannot die (cgroup-v1/freezer-subsystem)."""
        for root in _hierarchies():
            for path in Path(root).glob(self.cgroup[1:] + "/**/freezer.state"):
                with contextlib.suppress(OSError):
                    path.write_text("THAWED")


def _hierarchies() -> list[str]:
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, fstype, *_ = line.split()
        if fstype in ("cgroup", "cgroup2"):
            found.append(target)
    return found


def reap() -> None:
    """Reap orphans that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    found: list[int] = []
    todo = [pid]
    while todo:
        try:
            children = Path(f"/proc/{(at := todo.pop())}/task/{at}/children").read_text().split()
        except OSError:
            continue
        found += map(int, children)
        todo += map(int, children)
    return found


def spec(args: list[str], cgroup: str, *, rich: bool) -> dict[str, Any]:
    """An OCI configuration like the one containerd makes, in the host's network namespace."""
    capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"]
    return {
        "ociVersion": "1.0.2",
        "annotations": {} if rich else {"pouchrich.io/rich": "false"},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": {kind: capabilities for kind in ("bounding", "effective", "permitted")},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "nodev", "mode=1777"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }
