import asyncio
import shutil

import pytest

from runtime.oci import readonly_exec
from shim.pod.server import PodServer
from shim.task.reaper import Reaper

SH = shutil.which("sh")


def run(*argv):
    """The status of a program that a pod server runs."""

    async def play():
        pod = PodServer("namespace", "", "")
        pod._reaper = Reaper(asyncio.get_running_loop())
        pod._reaper.install()
        return await pod._run_program(argv, {})

    return asyncio.run(play())


@pytest.mark.parametrize("mount", ["/proc/self/fd/999", "/dev/null"])
def test_a_mount_that_cannot_be_executed_any_more_is_done_without(monkeypatch, mount):
    monkeypatch.setattr(readonly_exec, "executable", lambda path: mount)
    assert run(SH, "-c", "exit 7") == 7


def test_a_program_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/crun"):
        run(f"{tmp_path}/crun")


def test_the_address_is_gone_before_the_request_that_ends_the_pod_is_answered(tmp_path):
    """A server that is killed right after that answer would leave it: `delete` has looked while the server lived."""
    path = tmp_path / "socket"
    path.touch()

    async def play():
        pod = PodServer("namespace", "", str(path))
        pod.end()
        gone = not path.exists()
        path.touch()  # another server's by now
        pod.end()
        return gone, path.exists()

    assert asyncio.run(play()) == (True, True)
