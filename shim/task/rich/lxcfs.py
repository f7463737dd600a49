"""Asks whether the node's lxcfs is alive, without ever blocking the pod server."""

import os
import sys

from runtime.errors import DeadlineExceeded
from runtime.linux import mountinfo, statx
from runtime.rich import lxcfs
from shim.task.reaper import Reaper
from shim.task.rich.probe import ask


async def alive_files(reaper: Reaper, path: str = lxcfs.MOUNT) -> tuple[bool, tuple[str, ...]]:
    """Whether lxcfs is mounted at `path`, and which of its files can be read: `mounted` and `files` of `lxcfs.plan`."""
    if not _may_be_mounted(path) or not lxcfs.is_mounted(mountinfo.around(path), path):
        return False, ()
    try:
        _, output = await ask(reaper, lxcfs.probe_command(sys.executable, path), timeout_s=lxcfs.PROBE_TIMEOUT_S)
    except DeadlineExceeded:
        return True, ()
    return True, lxcfs.parse_probe(output)


def _may_be_mounted(path: str) -> bool:
    """Whether `path` is a mount point of another file system. Saves reading mountinfo on nodes without lxcfs."""
    try:
        return statx.identity(path)[0] != statx.identity(os.path.dirname(path))[0]
    except FileNotFoundError:
        return False
    except OSError:  # a mounted file system that does not answer
        return True
