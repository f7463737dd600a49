"""What a poststop hook in the container needs of a container that has ended: its namespaces and its spec.

A namespace exists while a process is in it or it is mounted somewhere. The path in a spec may be that of a process
(/proc/PID/ns/net of the pod's sandbox) and is valid only as long as the process lives. So each namespace is bound to a
file of ours, which a later process can find, too. All of it is below /run, as it is useless after a reboot.
"""

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from runtime import directories
from runtime.bundle import write_json
from runtime.linux import mounts, syscalls
from runtime.spec import ids

SPEC = "spec.json"
# The OCI specification's name -> the kernel's.
_KERNEL = {"network": "net", "ipc": "ipc", "uts": "uts", "user": "user"}


def pin(directory: str, init: int, types: Iterable[str], spec: dict[str, Any]) -> None:
    """Make `directory`, bind the namespaces `types` (OCI's names) of process `init` there, and store `spec`.

    Raises OSError, after which nothing is left.
    """
    group = ids.host_gid(spec, 0)
    directories.make(directory, mode=directories.mode_for(group))
    try:
        if group:
            os.chown(directory, -1, group)
        for name in types:
            path = f"{directory}/{name}"
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
            syscalls.mount(f"/proc/{init}/ns/{_KERNEL[name]}", path, None, syscalls.MS_BIND)
        write_json(f"{directory}/{SPEC}", spec)
    except BaseException:
        release(directory)
        raise


def load_spec(directory: str) -> dict[str, Any]:
    """The spec stored in `directory`. Raises OSError or ValueError."""
    with open(f"{directory}/{SPEC}", "rb") as file:
        spec: dict[str, Any] = json.load(file)
    return spec


def unpin(directory: str) -> None:
    """Unmount the namespaces. Copies of the mounts in other mount namespaces remain. May be repeated."""
    for point in mounts.mount_points(directory):
        with suppress(OSError):
            syscalls.umount2(point, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)


def release(directory: str) -> None:
    """Unmount everything in `directory` and remove it. May be repeated."""
    unpin(directory)
    shutil.rmtree(directory, ignore_errors=True)
