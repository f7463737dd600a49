"""A real lxcfs: alive, hanging and dead. It is started here, in a mount namespace that ends with the test."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from runtime import lxcfs
from runtime.linux import mountinfo, syscalls
from shim.task.lxcfs import alive_files
from shim.task.reaper import Reaper
from tests.fakes.loop import until
from tests.integration.binaries import cache

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and FUSE"),
]


def program():
    """The lxcfs that hack/test.sh unpacked without its service, or the installed one, and its environment."""
    unpacked = cache() / "lxcfs"
    if (found := unpacked / "usr/bin/lxcfs").exists():
        libraries = dict.fromkeys(str(path.parent) for path in unpacked.glob("**/lib*.so*"))
        return str(found), {"LD_LIBRARY_PATH": ":".join(libraries)}
    if installed := shutil.which("lxcfs", path="/usr/sbin:/usr/bin"):
        return installed, {}
    pytest.skip("lxcfs is not installed")


async def life_of(path, command, env):
    """What the shim finds out about lxcfs at `path` before, during and after its life."""
    reaper = Reaper(asyncio.get_running_loop())
    reaper.install()
    assert await alive_files(reaper, path) == (False, ())

    daemon = reaper.spawn([command, "-f", "-p", "/run/lxcfs.pid", path], {}, env)
    try:
        await until(lambda: lxcfs.is_mounted(mountinfo.read(), path))
        mounted, files = await alive_files(reaper, path)
        assert mounted
        assert {"proc/meminfo", "proc/uptime", "proc/cpuinfo", "proc/stat"} <= set(files)

        os.kill(daemon.pid, signal.SIGSTOP)
        before = time.monotonic()
        assert await alive_files(reaper, path) == (True, ())
        assert time.monotonic() - before < lxcfs.PROBE_TIMEOUT_S + 2

        os.kill(daemon.pid, signal.SIGCONT)
        assert await alive_files(reaper, path) == (True, files)
    finally:
        os.kill(daemon.pid, signal.SIGKILL)
        await daemon.ended
    assert await alive_files(reaper, path) == (True, ())
    syscalls.umount2(path, syscalls.MNT_DETACH)


def test_lxcfs_is_found_alive_hanging_and_dead(isolated, tmp_path):
    command, env = program()

    def act():
        syscalls.mount("tmpfs", "/run", "tmpfs")  # where lxcfs keeps its own files
        asyncio.run(life_of(str(tmp_path), command, env))

    isolated(act)
    assert list(Path(tmp_path).iterdir()) == []
