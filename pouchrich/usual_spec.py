"""A container as containerd makes it for the kubelet, where a command has an image and no spec."""

from typing import Any

from runtime.default_path import DEFAULT_PATH

COMMAND = "/bin/sh"
_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL"
    " AUDIT_WRITE"
)
"""containerd's default (pkg/oci/spec.go)."""


def make() -> dict[str, Any]:
    """A container of root that runs COMMAND, with containerd's default capabilities, namespaces and mounts."""
    held = [f"CAP_{name}" for name in _CAPABILITIES.split()]
    usual = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.1.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [COMMAND],
            "env": [f"PATH={DEFAULT_PATH}"],
            "cwd": "/",
            "capabilities": {"bounding": held, "effective": held, "permitted": held},
        },
        "root": {"path": "rootfs"},
        "mounts": [
            _mount("/proc", "proc", usual),
            _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            _mount("/dev/mqueue", "mqueue", usual),
            _mount("/sys", "sysfs", [*usual, "ro"]),
            _mount("/sys/fs/cgroup", "cgroup", [*usual, "relatime", "ro"]),
            _mount("/dev/shm", "tmpfs", [*usual, "mode=1777", "size=65536k"]),
        ],
        "linux": {
            "cgroupsPath": "/kubepods/pod/container",
            "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
        },
    }


def _mount(destination: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": options}
