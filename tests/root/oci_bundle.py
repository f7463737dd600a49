"""Containers of an OCI runtime made by hand: containerd's default spec, a plan applied to it, a console to read.

Nothing of the shim is here: what is under test is the plan.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from runtime import config, host, libexec, rundir
from runtime.cgroup import delegation
from runtime.image import image
from runtime.linux import syscalls
from runtime.oci import argv
from runtime.rich import plan, policy
from runtime.spec.identity import Identity

DEFAULT_CAPABILITIES = [
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
    "CAP_AUDIT_WRITE",
]

# The launcher's part is not what these tests are about: it says that it was started, and stays.
_TIOCGPTPEER = 0x5441

LAUNCHER_C = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "halt"))
        return fprintf(stderr, "launcher halt\n"), 0;
    if (argc > 2 && !strcmp(argv[1], "stop"))
        return execv(argv[2], argv + 2);
    fprintf(stderr, "launcher started by %d as %d with %s\n", getppid(), getuid(), argc > 1 ? argv[1] : "nothing");
    for (;;)
        pause();
}
"""


def spec(*args, uid=0, capabilities=DEFAULT_CAPABILITIES, annotations=(), cgroup="", mounts=(), readonly=False):
    """What containerd's CRI plugin makes for a container, without the devices and seccomp."""
    quiet = ["nosuid", "noexec", "nodev"]
    names = list(capabilities)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": uid, "gid": uid},
            "args": list(args) or ["/bin/sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SECRET=x"],
            "cwd": "/",
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
            "oomScoreAdj": 0,
        },
        "root": {"path": "rootfs", "readonly": readonly},
        "hostname": "rich",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": [*quiet, "relatime", "ro"],
            },
            {
                "destination": "/dev/shm",
                "type": "tmpfs",
                "source": "shm",
                "options": [*quiet, "mode=1777", "size=65536k"],
            },
            *mounts,
        ],
        "annotations": dict(annotations),
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [{"type": one} for one in ("pid", "ipc", "uts", "mount", "network")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def build_launcher(directory):
    """Compile the stand-in into `directory`, as `launch`."""
    source = Path(directory) / "launch.c"
    source.write_text(LAUNCHER_C)
    subprocess.run(["musl-gcc", "-static", "-Os", "-s", "-o", Path(directory) / "launch", source], check=True)


@dataclass
class Running:
    """A container made from a plan; `console` grows by what PID 1 writes."""

    runtime: str
    directory: Path
    name: str
    plan: plan.Plan
    console: bytearray = field(default_factory=bytearray)
    inside: int | None = None

    @property
    def passed(self):
        return () if self.inside is None else (self.inside,)

    def command(self, *words):
        command = [self.runtime, "--root", str(self.directory / "state"), *words]
        if self.inside is None or words[0] not in ("create", "exec"):
            return command
        return argv.entering(libexec.path("launch"), self.inside, [shutil.which(self.runtime), *command[1:]])

    def _call(self, *words, **options):
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=60, pass_fds=self.passed, **options
        )

    def exec(self, *words, check=False):
        done = self._call("exec", "--env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", self.name, *words)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def until(self, *words, says, within_s=30.0):
        """Repeat a command in the container until it says one of `says`; what it said last."""
        deadline = time.monotonic() + within_s
        said = self.exec(*words)
        while said not in says and time.monotonic() < deadline:
            time.sleep(0.2)
            said = self.exec(*words)
        return said

    def until_console(self, text, within_s=30.0):
        deadline = time.monotonic() + within_s
        while text.encode() not in self.console and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.console.decode(errors="replace")

    @property
    def pid(self):
        return int(json.loads(self._call("state", self.name).stdout)["pid"])

    def poweroff(self, within_s=20.0):
        """Tell init to power off; whether it ended by itself."""
        fd = os.pidfd_open(self.pid)
        try:
            signal.pidfd_send_signal(fd, self.plan.boot.poweroff)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(within_s * 1000))
        finally:
            os.close(fd)


def _console_fd(server):
    with contextlib.closing(server):
        peer, _ = server.accept()
    with peer:
        _, (fd, *_), *_ = socket.recv_fds(peer, 4096, 1)
    return fd


def _held(master):
    """A descriptor of the slave: while one is open, the master does not end when PID 1 lets go of its console."""
    return fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)


def _drain(fd, into):
    with contextlib.suppress(OSError):
        while chunk := os.read(fd, 65536):
            into += chunk


@contextlib.contextmanager
def running(runtime, directory, lower, before, *, body="", terminal=False):
    """The container that the plan for `before` makes on the file system `lower`, started; gone afterwards.

    Call it in a mount namespace of one's own.
    """
    directory, name = Path(directory), f"modes-{os.getpid()}"
    for part in ("rootfs", "layers", "helpers"):
        (directory / part).mkdir(parents=True)
    syscalls.mount("tmpfs", str(directory / "layers"), "tmpfs")
    for part in ("upper", "work"):
        (directory / "layers" / part).mkdir()
    layers = f"lowerdir={lower},upperdir={directory}/layers/upper,workdir={directory}/layers/work"
    syscalls.mount("overlay", str(directory / "rootfs"), "overlay", 0, layers)
    build_launcher(directory / "helpers")
    settings = config.parse(f"version = 1\n{body}", source="/etc/c.toml")
    identity = Identity.from_spec(before, namespace="default", container_id=name)
    choice = policy.choose(before, settings, identity)
    made = plan.make(
        before,
        choice,
        config=settings,
        facts=image.read_facts(str(directory / "rootfs"), before, choice.services),
        terminal=terminal,
        host=host.read(),
        run_dir=str(directory / "run"),
    )
    after = dict(made.apply(before))
    (directory / "config.json").write_text(json.dumps(after))
    rundir.make(str(directory / "run"))
    rundir.add_programs(str(directory / "run"), made.helpers, directory=str(directory / "helpers"))
    rundir.fill(str(directory / "run"), made.boot)
    container = Running(runtime, directory, name, made)
    if made.cgroup is not None:
        container.inside = delegation.prepare(made.cgroup)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(directory / "console"))
    server.listen()
    create = ["create", "--bundle", str(directory), "--console-socket", str(directory / "console"), name]
    command = container.command(*create)
    drain = None
    try:
        with open(directory / "log", "w+b") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=60, pass_fds=container.passed
            )
            log.seek(0)
            assert done.returncode == 0, log.read().decode()
        master = _console_fd(server)
        slave = _held(master)
        drain = threading.Thread(target=_drain, args=(master, container.console), daemon=True)
        drain.start()
        started = container._call("start", name)
        assert started.returncode == 0, started.stderr
        yield container
    finally:
        container._call("delete", "--force", name)
        for fd in container.passed:
            os.close(fd)
        if made.cgroup is not None:
            delegation.remove(made.cgroup, patience_s=5)
        if drain is not None:
            os.close(slave)  # ends the thread
            drain.join()
            os.close(master)
        for directory_of_cgroup in cgroups_of(before["linux"]["cgroupsPath"]):
            with contextlib.suppress(OSError):
                os.rmdir(directory_of_cgroup)
        for part in ("rootfs", "layers"):
            syscalls.umount2(str(directory / part), syscalls.MNT_DETACH)
        rundir.remove(str(directory / "run"))


def cgroups_of(path):
    """The directories of a cgroup path in all hierarchies, what is below it first."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, fstype, *_ = line.split()
        top = Path(target + path)
        if fstype in ("cgroup", "cgroup2") and top.is_dir():
            found += sorted((str(one) for one in top.rglob("*") if one.is_dir()), key=len, reverse=True)
            found.append(str(top))
    return found
