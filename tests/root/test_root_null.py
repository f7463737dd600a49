"""A /dev/null of one's own: root in a container may do with it what it likes."""

import asyncio
import fcntl
import os
import stat
from collections.abc import Mapping, Sequence

import pytest

from runtime.errors import NotFound
from runtime.linux import null
from runtime.oci.argv import ExecOptions, OCIBinary
from runtime.oci.cli import OCIRuntime


def test_it_is_dev_null_in_all_but_who_owns_it():
    node = os.stat(os.devnull)
    first, second = null.open_own(), null.open_own()
    try:
        found = os.fstat(first)
        assert (found.st_mode, found.st_rdev) == (stat.S_IFCHR | 0o666, node.st_rdev)
        assert len({found.st_dev, os.fstat(second).st_dev, node.st_dev}) == 3
        assert os.readlink(f"/proc/self/fd/{first}") == os.devnull
        assert (os.write(first, b"gone"), os.read(first, 1)) == (4, b"")
        os.fchmod(first, 0)
        os.fchown(first, 1234, 1234)
        assert os.fstat(second).st_mode == stat.S_IFCHR | 0o666
        assert (os.stat(os.devnull).st_mode, os.stat(os.devnull).st_uid) == (node.st_mode, node.st_uid)
    finally:
        os.close(first)
        os.close(second)


def test_a_sink_takes_all_and_is_no_dev_null_to_an_oci_runtime():
    sink = null.open_own_sink()
    try:
        assert os.fstat(sink).st_rdev != os.stat(os.devnull).st_rdev
        assert os.fstat(sink).st_dev != os.stat("/dev/zero").st_dev
        assert os.write(sink, bytes(1 << 20)) == 1 << 20
    finally:
        os.close(sink)


def test_a_containers_execs_share_one_which_no_other_container_has():
    devices: list[int] = []
    kept: list[int] = []

    async def run(argv: Sequence[str], fds: Mapping[int, int], /, *, oom_score_adj: int | None = None) -> int:
        assert os.fstat(fds[0]).st_rdev == os.stat(os.devnull).st_rdev
        fcntl.flock(fds[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.get_blocking(fds[0]), "no flag of an earlier exec's"
        os.set_blocking(fds[0], False)
        kept.append(os.dup(fds[0]))  # as a process of the container that goes on
        fcntl.flock(fds[0], fcntl.LOCK_UN)
        devices.append(os.fstat(fds[0]).st_dev)
        return 0

    async def execute(container: OCIRuntime) -> None:
        await container.exec("c", ExecOptions(process="/p", pid_file="/f"), {})

    before = os.listdir("/proc/self/fd")
    containers = [OCIRuntime(OCIBinary("/bin/true", "/run/none"), run) for _ in range(2)]
    for container in (*containers, *containers):
        asyncio.run(execute(container))
    first, second, *again = devices
    assert first != second
    assert again == [first, second]
    for fd in kept:
        os.close(fd)
    for container in (*containers, *containers):
        container.close()
        with pytest.raises(NotFound, match="no such container"):
            asyncio.run(execute(container))
    assert os.listdir("/proc/self/fd") == before
