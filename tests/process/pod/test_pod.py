import asyncio
import shutil
import socket

import pytest

from protos.gen import task_pb2
from runtime.cgroup import attach
from runtime.oci import readonly_exec
from shim.pod.server import PodServer
from shim.task.reaper import Reaper
from shim.task.service import TaskService
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.errors import RemoteError

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


@pytest.mark.parametrize(
    ("containers", "is_unified", "expected"),
    [
        pytest.param(0, False, [1, 2], id="the first, and one more"),
        pytest.param(1, False, [2], id="containerd was restarted"),
        pytest.param(0, True, [], id="cgroup v2"),
    ],
)
def test_a_connection_begins_the_wait_of_a_container_that_is_about_to_be_created(
    monkeypatch, tmp_path, containers, is_unified, expected
):
    begun = []
    monkeypatch.setattr(attach, "is_unified", lambda: is_unified)
    monkeypatch.setattr(TaskService, "count", property(lambda service: containers))

    async def play():
        pod = PodServer("namespace", "", "")
        monkeypatch.setattr(attach.MigrationWindow, "open", lambda window: begun.append(pod._server.connections))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            listener.listen()
            serving = asyncio.create_task(pod.run(listener.detach()))
        clients = [await TtrpcClient.connect(str(tmp_path / "socket")) for _ in range(2)]
        for client in clients:
            with pytest.raises(RemoteError, match="container not created"):
                await client.call(
                    "containerd.task.v3.Task", "State", task_pb2.StateRequest(id="c"), task_pb2.StateResponse
                )
            client.close()
        pod.end()
        await serving

    asyncio.run(play())
    assert begun == expected
