"""Asking a node's lxcfs whether it is alive, without ever waiting for it in the pod server."""

import sys

from runtime.errors import DeadlineExceeded
from runtime.linux import mountinfo
from runtime.rich import lxcfs
from shim.task.probe import ask
from shim.task.reaper import Reaper


async def alive_files(reaper: Reaper, path: str = lxcfs.MOUNT) -> tuple[bool, tuple[str, ...]]:
    """Whether lxcfs is mounted at `path`, and which of its files answer: the `mounted` and `files` of `lxcfs.plan`."""
    if not lxcfs.is_mounted(mountinfo.around(path), path):
        return False, ()
    try:
        _, output = await ask(reaper, lxcfs.probe_command(sys.executable, path), timeout_s=lxcfs.PROBE_TIMEOUT_S)
    except DeadlineExceeded:
        return True, ()
    return True, lxcfs.parse_probe(output)
