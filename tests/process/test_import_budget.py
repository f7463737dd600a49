"""What the commands pay for, and that a loaded pod server may be forked: nothing runs or is open by import alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BARE = [sys.executable, "-I", "-S", "-c"]

# Beyond the bare interpreter and what it loads for itself, which differs between Pythons.
DELETE = {
    "_socket",
    "fcntl",
    "runtime",
    "runtime.errors",
    "runtime.paths",
    "runtime.spec",
    "runtime.spec.cri",
    "shim",
    "shim.__main__",
    "shim.contract",
    "shim.contract.address",
    "shim.contract.bootstrap",
    "shim.contract.flags",
    "shim.contract.group",
    "shim.contract.identifiers",
    "shim.contract.peer",
    "shim.contract.wire",
    "shim.installed",
    "shim.installed.location",
    "shim.installed.version",
    "shim.manager",
    "shim.manager.delete",
    "shim.pod",
    "shim.pod.cleanup",
    "shim.pod.sandbox_cleanup",
    "shim.spawner",
    "shim.spawner.cgroup",
    "shim.spawner.child",
    "shim.spawner.containerd_version",
    "shim.spawner.request",
}
SHA = {"_sha2", "_sha256"}
OS = {"os", "stat", "posixpath", "genericpath", "_stat", "_collections_abc", "os.path", "abc", "_abc"}
NEVER = {
    "asyncio",
    "json",
    "re",
    "enum",
    "socket",
    "subprocess",
    "logging",
    "typing",
    "dataclasses",
    "google",
    "signal",
}


def run(script: str, *path: str) -> list[str]:
    start = f"import sys; sys.path[:0] = {[str(ROOT), *path]!r}\n"
    result = subprocess.run([*BARE, start + script], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def imported(*modules: str) -> set[str]:
    names = ", ".join(modules)
    script = f"before = set(sys.modules)\nimport {names}\nprint(*sorted(set(sys.modules) - before))"
    return set(run(script))


def test_delete_imports_exactly_this_before_it_acts():
    found = imported("shim.__main__", "shim.manager.delete")
    assert found - SHA - OS - {"time", "errno"} == DELETE
    assert len(found & SHA) == 1


@pytest.mark.parametrize("modules", [("shim.__main__",), ("shim.__main__", "shim.manager.delete")])
def test_a_command_never_imports_what_it_cannot_afford(modules: tuple[str, ...]):
    assert imported(*modules) & NEVER == set()


POD = f"import site; sys.path += {[path for path in sys.path if path.endswith('-packages')]!r}\n"


def test_importing_the_pod_server_starts_and_opens_nothing():
    script = (
        POD
        + """
import ctypes, os, threading  # libffi 3.5 keeps its own file open, with O_CLOEXEC
before = sorted(os.listdir("/proc/self/fd"))
import shim.pod.server
import asyncio, signal
assert sorted(os.listdir("/proc/self/fd")) == before, "descriptors"
assert threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1, "threads"
assert asyncio._get_running_loop() is None
assert asyncio.get_event_loop_policy()._local._loop is None, "a loop was made"
assert signal.getsignal(signal.SIGCHLD) in (signal.SIG_DFL, None)
print("ok")
"""
    )
    assert run(script) == ["ok"]


def test_a_fork_of_a_process_with_everything_loaded_serves(tmp_path: Path):
    path = tmp_path / "s"
    script = (
        POD
        + f"""
import os
from shim.contract import address
from shim.pod import server as pod
listener = address.listen({str(path)!r})
pid = os.fork()
if pid == 0:
    os._exit(pod.serve(namespace="ns", ttrpc_address="", socket_path={str(path)!r}, listener=listener.detach()))
listener.close()
import asyncio, signal
from protos.gen import task_pb2
from shim.ttrpc.client import TtrpcClient

async def ask():
    client = await TtrpcClient.connect({str(path)!r})
    request, response = task_pb2.ConnectRequest(id="x"), task_pb2.ConnectResponse
    answer = await client.call("containerd.task.v2.Task", "Connect", request, response, 5.0)
    client.close()
    return answer.shim_pid

assert asyncio.run(ask()) == pid
os.kill(pid, signal.SIGTERM)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert not os.path.exists({str(path)!r})
print("ok")
"""
    )
    assert run(script) == ["ok"]
    assert not os.path.exists(path)
