"""A real lxcfs: alive, hanging and dead. It is started here, in a mount namespace that ends with the test."""

import asyncio
import json
import os
import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.init.base import MountPoint
from runtime.linux import mountinfo, syscalls
from runtime.oci.cli import MemoryFile
from runtime.rich import lxcfs
from runtime.spec import edit
from shim.task.reaper import Reaper
from shim.task.rich.lxcfs import alive_files
from tests.fakes.loop import until
from tests.integration import binaries

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="needs root and FUSE"),
]

BUSYBOX = shutil.which("busybox", path="/usr/bin:/bin")
MOUNTS = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
)


def program():
    """lxcfs and its environment."""
    try:
        found, env = binaries.lxcfs()
    except FileNotFoundError:
        pytest.skip("lxcfs is not installed")
    return str(found), env


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


def bundle(path, mount, name, files):
    """A container of busybox with 64 MiB that prints what it sees, and the binds of the plan."""
    for directory in ("bin", "proc", "dev", "sys"):
        (path / "rootfs" / directory).mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "rootfs/bin/busybox")
    points = tuple(MountPoint(one["destination"], one["destination"], one) for one in MOUNTS)
    steps, warnings = lxcfs.plan(True, files, points, path=mount)
    assert (len(steps), warnings) == (len(files), ())
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/busybox", "cat", "/proc/meminfo", *(f"/{one}" for one in files if "slabinfo" not in one)],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": {"path": "rootfs"},
        "mounts": list(MOUNTS),
        "linux": {
            "namespaces": [{"type": one} for one in ("pid", "mount", "ipc", "uts")],
            "cgroupsPath": f"/{name}",
            "resources": {"memory": {"limit": 64 << 20}},
        },
    }
    (path / "config.json").write_text(json.dumps(edit.apply(spec, steps)))


async def seen_in_container(reaper, runtime, path, mount, files):
    """What such a container of `runtime` prints."""
    name = f"pouchrich-lxcfs-{os.getpid()}"
    bundle(path, mount, name, files)
    with MemoryFile("output") as output:
        command = [runtime, "--root", str(path / "state"), "run", "--bundle", str(path), name]
        child = reaper.spawn(command, {1: output.fd, 2: output.fd}, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        status = (await child.ended).status
        said = output.read(1 << 20).decode()
    assert status == 0, said
    return said


async def bound(path, command, env, runtime, directory):
    """A container's own view through a live lxcfs."""
    reaper = Reaper(asyncio.get_running_loop())
    reaper.install()
    daemon = reaper.spawn([command, "-f", "-p", "/run/lxcfs.pid", path], {}, env)
    try:
        await until(lambda: lxcfs.is_mounted(mountinfo.read(), path))
        _, files = await alive_files(reaper, path)
        said = await seen_in_container(reaper, runtime, directory, path, files)
        assert re.search(r"^MemTotal: +65536 kB$", said, re.MULTILINE)
    finally:
        os.kill(daemon.pid, signal.SIGKILL)
        await daemon.ended
        syscalls.umount2(path, syscalls.MNT_DETACH)


@pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox")
@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_every_file_that_is_bound_is_taken_by_the_runtime_and_shows_the_limit(isolated, tmp_path, runtime):
    command, env = program()
    binary = shutil.which(runtime, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if binary is None:
        pytest.skip(f"{runtime} is not installed")
    (tmp_path / "lxcfs").mkdir()

    def act():
        if runtime == "crun":  # older ones refuse a v2 tree beside v1 controllers
            with suppress(OSError):
                syscalls.umount2("/sys/fs/cgroup/unified", syscalls.MNT_DETACH)
        syscalls.mount("tmpfs", "/run", "tmpfs")
        asyncio.run(bound(str(tmp_path / "lxcfs"), command, env, binary, tmp_path / "bundle"))

    isolated(act)


def test_lxcfs_is_found_alive_hanging_and_dead(isolated, tmp_path):
    command, env = program()

    def act():
        syscalls.mount("tmpfs", "/run", "tmpfs")  # where lxcfs keeps its own files
        asyncio.run(life_of(str(tmp_path), command, env))

    isolated(act)
    assert list(Path(tmp_path).iterdir()) == []
