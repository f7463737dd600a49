"""The work on which the interpreter of a release is trained (profile-guided optimization, hack/build-python.sh).

It does what the spawner and a pod server do, with the standard library alone: it imports modules, serves requests over
a unix socket, rewrites an OCI spec, parses texts as the kernel writes them, opens files, logs, and handles errors of
system calls.

Two builds of the interpreter have to be the same. So what this executes depends on no clock, process ID, thread, file
of the machine, or hash of a string (PYTHONHASHSEED is 0).
"""

import asyncio
import contextlib
import copy
import ctypes
import dataclasses
import enum
import errno
import fcntl
import fnmatch
import importlib.util
import json
import logging
import os
import posixpath
import re
import socket
import stat
import struct
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, NamedTuple

from _specialize import set_specializing  # type: ignore[import-not-found]

ROUNDS, WARM_UP_ROUNDS = 150, 5
IMPORTS = ("argparse", "asyncio.streams", "dataclasses", "ipaddress", "json.decoder", "tomllib._parser")
HEAD = struct.Struct(">IIBB")
MOUNT = re.compile(r"(\d+) (\d+) (\d+):(\d+) (\S+) (\S+) (\S+)")
MOUNTS = "".join(
    f"{number} {number // 2} 0:{number} / /run/containerd/{number}/root\\040fs rw,nosuid shared:{number}"
    f" - {'overlay' if number % 3 else 'cgroup2'} none rw,lowerdir=/a:/b:/c,upperdir=/u{number}\n"
    for number in range(20, 100)
)
STAT = "cache 1048576\nrss 4096\ninactive_file 8192\nworkingset_refault 0\nusage_usec 123456\nnr_throttled 0\n" * 4
CONFIG = """
[rich]
mode = "systemd"
services = ["cron", "rsyslog"]
[[hooks.prestart]]
name = "prepare"
command = ["/bin/sh", "-c", "echo $HOSTNAME"]
when = { namespace = ["shop-*"] }
"""
SPEC: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "user": {"uid": 0, "gid": 0, "additionalGids": [0, 10]},
        "args": ["/bin/server", "--port", "8080"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", *(f"SERVICE_{number}_HOST=10.96.0.1" for number in range(40))],
        "capabilities": {kind: [f"CAP_{number}" for number in range(14)] for kind in ("bounding", "permitted")},
        "cwd": "/",
    },
    "mounts": [
        {"destination": f"/mnt/{number}", "type": "bind", "source": f"/srv/{number}", "options": ["rbind", "rw"]}
        for number in range(20)
    ],
    "annotations": {f"io.kubernetes.cri.{number}": f"value {number} \u00e9" for number in range(16)},
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
        "resources": {"memory": {"limit": 1 << 30}, "cpu": {"shares": 102, "quota": 10_000}},
        "seccomp": {"syscalls": [{"names": [f"call_{number}" for number in range(300)], "action": "SCMP_ACT_ALLOW"}]},
    },
}


class Loop(asyncio.SelectorEventLoop):
    """A loop for which no time passes."""

    def time(self) -> float:
        return 1.0


class State(enum.Enum):
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


class Mount(NamedTuple):
    id: int
    point: str
    fstype: str
    options: tuple[str, ...] = ()

    @property
    def is_cgroup(self) -> bool:
        return self.fstype.startswith("cgroup")


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    mode: str
    steps: tuple[str, ...] = ()
    decisions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def then(self, step: str) -> "Plan":
        return dataclasses.replace(self, steps=(*self.steps, step))


class Container:
    """A container's state, its waiters and its processes."""

    def __init__(self, name: str) -> None:
        self.name, self.state = name, State.CREATED
        self._execs: dict[str, int] = {}
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._lock = asyncio.Lock()

    async def start(self) -> int:
        async with self._lock:
            if self.state is not State.CREATED:
                raise ValueError(f"state: found {self.state.value!r}, allowed {State.CREATED.value!r}")
            self.state = State.RUNNING
        return len(self.name)

    async def exec(self, name: str) -> int:
        self._execs[name] = len(self._execs)
        try:
            async with asyncio.timeout(60):
                return await asyncio.shield(self._step(name))
        finally:
            self._execs.pop(name, None)

    async def _step(self, name: str) -> int:
        await asyncio.sleep(0)
        return self._execs.get(name, -1)

    async def wait(self) -> int:
        return await self._ended

    def end(self, status: int) -> None:
        self.state = State.STOPPED
        self._ended.set_result(status)


@contextlib.contextmanager
def opened(path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def served(
    answer: Callable[[int, bytes], Awaitable[bytes]],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client of a server that has a task for each request."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)
    tasks: set[asyncio.Task[None]] = set()

    async def handle(stream: int, body: bytes) -> None:
        try:
            said = await answer(stream, body)
        except ValueError as err:
            said = str(err).encode()
        writer.write(HEAD.pack(len(said), stream, 2, 0) + said)

    async def serve() -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                length, stream, _, _ = HEAD.unpack(await reader.readexactly(HEAD.size))
                task = asyncio.create_task(handle(stream, await reader.readexactly(length)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    server = asyncio.create_task(serve())
    client = await asyncio.open_connection(sock=ours)
    try:
        yield client
    finally:
        client[1].close()
        await server
        writer.close()


async def requests(number: int) -> None:
    """A container's life, as requests of containerd."""
    container = Container(f"c{number}")

    async def answer(stream: int, body: bytes) -> bytes:
        verb, _, words = body.decode().partition(" ")
        if verb == "create":
            return json.dumps(rewritten(json.loads(words))).encode()
        if verb == "start":
            return str(await container.start()).encode()
        if verb == "exec":
            return str(await container.exec(words)).encode()
        if verb == "stats":
            return str(sum(int(line.partition(" ")[2]) for line in STAT.splitlines())).encode()
        if verb == "wait":
            return str(await container.wait()).encode()
        container.end(int(words))
        return b""

    async with served(answer) as (reader, writer):
        spec = json.dumps(SPEC)
        for stream, line in enumerate(
            (f"create {spec}", "start", "start", "wait", *("stats", "exec e") * 6, f"kill {number % 128}")
        ):
            writer.write(HEAD.pack(len(body := line.encode()), 2 * stream + 1, 1, 0) + body)
            timer = asyncio.get_running_loop().call_later(1000, print, "too late")
            if not line.startswith("wait"):
                length, _, _, _ = HEAD.unpack(await reader.readexactly(HEAD.size))
                await reader.readexactly(length)
            timer.cancel()


def rewritten(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec of a rich container, and the plan beside it."""
    spec = copy.deepcopy(spec)
    plan = Plan("dumb-init", decisions={"mode": "the node"})
    environment = dict(one.split("=", 1) for one in spec["process"]["env"] if "=" in one)
    for name in sorted(environment):
        if fnmatch.fnmatchcase(name, "*_1?_HOST"):
            plan = plan.then(f"hide {name}")
    targets = {posixpath.normpath(one["destination"]) for one in spec["mounts"]}
    for target in ("/run", "/tmp", "/mnt/3"):
        if any(target == one or one.startswith(f"{target}/") for one in sorted(targets)):
            continue
        spec["mounts"].append({"destination": target, "type": "tmpfs", "options": [*"ab", f"mode={0o755:o}"]})
    spec["process"]["args"] = ["/run/init", "--", *spec["process"]["args"]]
    spec["annotations"].update({key: value for key, value in plan.decisions.items() if value})
    return spec | {"plan": {"steps": list(plan.steps)}}


def mounts() -> dict[str, Mount]:
    found = {}
    for line in MOUNTS.splitlines():
        left, _, right = line.partition(" - ")
        fields, match = left.split(), MOUNT.match(line)
        assert match is not None
        fstype, _, options = right.split(" ", 2)
        mount = Mount(int(match[1]), fields[4].replace("\\040", " "), fstype, tuple(options.split(",")))
        if not mount.is_cgroup or any(one.startswith("shared:") for one in fields[6:]):
            found[mount.point] = mount._replace(options=mount.options[:2])
    return dict(sorted(found.items(), key=lambda one: one[1].id, reverse=True))


def imports() -> None:
    """Unmarshal and execute modules anew."""
    for name in IMPORTS:
        spec = importlib.util.find_spec(name)
        assert spec and spec.loader  # noqa: PT018
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def files() -> None:
    """Descriptors, and errors of system calls."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.write(writing, b"0::/kubepods/pod1\n" * 8)
    os.read(reading, 4096).decode().rstrip().splitlines()
    fcntl.fcntl(reading, fcntl.F_GETFD)
    stat.S_ISREG(os.fstat(reading).st_mode)  # not /dev/null's: others may have changed its owner, whose number counts
    with opened("/dev/null", os.O_RDWR) as fd:
        os.write(fd, json.dumps(SPEC["linux"]).encode())
    for path in ("/dev/null/none", "/proc/self/none"):
        try:
            os.stat(path)
        except OSError as err:
            if err.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
    os.close(reading)
    os.close(writing)


def main() -> None:
    time.time_ns = lambda: 1_800_000_000_123_456_789
    log = logging.getLogger("training")
    log.addHandler(logging.StreamHandler(open(os.devnull, "w")))  # noqa: SIM115
    library = ctypes.CDLL(None, use_errno=True)
    for number in range(ROUNDS):
        set_specializing(number < WARM_UP_ROUNDS)  # as the spawner does
        if number % 10 == 0:
            imports()
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(requests(number))
        for _ in range(4):
            mounts()
            files()
        log.warning("container %s: %s", f"c{number}", State("running"))
        tomllib.loads(CONFIG)
        library.abs(-number)


if __name__ == "__main__":
    main()
