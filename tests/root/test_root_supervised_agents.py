"""Agents in a real container of crun and runc: started, restarted, limited to what the pod may, gone with it."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.agents.process import supervised
from runtime.image.passwd import User
from runtime.linux import syscalls
from runtime.oci import argv
from runtime.oci.cli import OCIRuntime
from shim.task.reaper import Reaper
from shim.task.rich.agent_exec import AgentExec
from shim.task.rich.agents import Clock, Supervisor
from tests.fakes.loop import until
from tests.unit.agents.making import selected

BUSYBOX = shutil.which("busybox", path="/usr/bin:/bin")
RUNTIMES = {name: shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in ("crun", "runc")}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or BUSYBOX is None, reason="needs root and a static busybox"),
]

CAPABILITIES = ["CAP_KILL", "CAP_SETUID", "CAP_SETGID"]
SPEC = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 1000, "gid": 1000},
        "args": ["/bin/busybox", "sleep", "600"],
        "env": ["PATH=/bin", "SECRET=of the pod"],
        "cwd": "/",
        "noNewPrivileges": True,
        "capabilities": {"bounding": CAPABILITIES, "permitted": [], "effective": [], "inheritable": [], "ambient": []},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 123, "soft": 123}],
    },
    "root": {"path": "rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/out", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
    ],
    "linux": {"namespaces": [{"type": one} for one in ("pid", "mount", "ipc", "uts")]},
}


def bundle_at(path, name):
    (path / "rootfs/bin").mkdir(parents=True)
    for directory in ("proc", "dev", "out", "etc"):
        (path / "rootfs" / directory).mkdir()
    (path / "rootfs/out").chmod(0o1777)
    shutil.copy(BUSYBOX, path / "rootfs/bin/busybox")
    spec = json.loads(json.dumps(SPEC))
    spec["linux"]["cgroupsPath"] = f"/pouchrich-test-{name}"
    (path / "config.json").write_text(json.dumps(spec))
    return spec


def is_there(pid):
    return os.path.exists(f"/proc/{pid}")


def script(text, **more):
    return {"command": ("/bin/busybox", "sh", "-c", text), **more}


class Node:
    """One container of the runtime `binary`, and its agents."""

    def __init__(self, binary, path):
        self.reaper = Reaper(asyncio.get_running_loop())
        self.reaper.install()
        self.path, self.name = path, f"agents-{os.getpid()}"
        self.spec = bundle_at(path, self.name)
        self.oci = OCIRuntime(argv.OCIBinary(binary, str(path / "state")), self._run)
        self.lines = []

    async def _run(self, words, fds):
        return (await self.reaper.spawn(words, fds, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}).ended).status

    async def start(self):
        options = argv.CreateOptions(bundle=str(self.path), pid_file=str(self.path / "pid"))
        with self.reaper.expecting():
            await self.oci.create(self.name, options, None)
            self.pid = int((self.path / "pid").read_text())
            self.ended = asyncio.get_running_loop().create_future()
            self.reaper.watch(self.pid, self.ended.set_result)
        await self.oci.start(self.name)

    def supervise(self, *agents):
        start = AgentExec(self.name, str(self.path), self.oci, self.reaper).start
        made = [supervised(one, self.spec) for one in agents]
        return Supervisor(self.name, made, start, clock=Clock(sleep=lambda seconds: asyncio.sleep(seconds / 100)))

    def out(self, name):
        path = Path(f"/proc/{self.pid}/root/out/{name}")
        return path.read_text() if path.exists() else ""

    async def stop(self):
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await self.ended
        await self.oci.delete(self.name, force=True)


STATUS = "/bin/busybox cat /proc/self/status >/out/$(/bin/busybox id -u); exec /bin/busybox sleep 600"
APP = User(1000, 1001, (7,), "app", "/home/app")


async def live(binary, path):
    node = Node(binary, path)
    await node.start()
    supervisor = node.supervise(
        selected(name="root", **script(f"ulimit -n >/out/limit; {STATUS}")),
        selected(APP, name="app", user="app", env=(("A", "b=c"),), **script(f"/bin/busybox env >/out/env; {STATUS}")),
        selected(name="dies", restart="on-failure", **script("echo x >>/out/dies; exit 3")),
        selected(name="done", restart="on-failure", **script("echo x >>/out/done")),
        selected(name="missing", command=("/bin/nothing",), restart="no"),
    )
    try:
        supervisor.start()
        await until(lambda: node.out("0") and node.out("1000") and len(node.out("dies").splitlines()) >= 3)
        await until(lambda: {one.name: one.state for one in supervisor.states()}["missing"] == "ended")
        by_name = {one.name: one for one in supervisor.states()}
        seen = {
            name: dict(line.split(":\t", 1) for line in node.out(uid).splitlines())
            for name, uid in (("root", "0"), ("app", "1000"))
        }
        assert seen["root"]["Uid"].split() == ["0"] * 4
        assert int(seen["root"]["CapEff"], 16) == int(seen["root"]["CapBnd"], 16) == 1 << 5 | 1 << 6 | 1 << 7
        assert (seen["app"]["Uid"].split(), seen["app"]["Gid"].split()) == (["1000"] * 4, ["1001"] * 4)
        assert seen["app"]["Groups"].split() == ["7"]
        assert int(seen["app"]["CapEff"], 16) == 0
        assert seen["root"]["NoNewPrivs"] == "1"
        assert node.out("limit") == "123\n"
        assert "SECRET" not in node.out("env")
        assert "HOME=/home/app\n" in node.out("env")
        assert "A=b=c\n" in node.out("env")
        assert by_name["dies"].restarts >= 2
        assert (by_name["done"].state, by_name["done"].status, node.out("done")) == ("ended", 0, "x\n")
        assert by_name["missing"].status != 0
        assert not node.ended.done()  # no agent's end has taken the container along

        pid = by_name["root"].pid
        assert os.readlink(f"/proc/{pid}/ns/pid") == os.readlink(f"/proc/{node.pid}/ns/pid")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: {one.name: one for one in supervisor.states()}["root"].restarts == 1)
        await until(lambda: {one.name: one for one in supervisor.states()}["root"].pid not in (0, pid))
        last = [one.pid for one in supervisor.states() if one.pid]
    finally:
        await node.stop()
        await supervisor.stop()
    assert last
    assert not any(map(is_there, last))
    assert {one.state for one in supervisor.states()} == {"ended"}
    assert not list(path.glob(".agent-*"))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_agents_run_beside_the_application_as_the_pod_allows(isolated, tmp_path, runtime):
    if RUNTIMES[runtime] is None:
        pytest.skip(f"{runtime} is not installed")

    def act():
        if runtime == "crun":  # older ones refuse a v2 tree beside v1 controllers
            with suppress(OSError):
                syscalls.umount2("/sys/fs/cgroup/unified", syscalls.MNT_DETACH)
        syscalls.set_child_subreaper()
        asyncio.run(live(RUNTIMES[runtime], tmp_path))

    isolated(act)
