"""Docker's engine on a node, above its containerd: containers in containerd's namespace `moby`, one shim for each."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.integration import binaries, processes, rich_images
from tests.integration.configuration import TEST_FILE
from tests.integration.node import Node
from tests.integration.rich_images import System
from tests.integration.waiting import until

TYPE = "io.containerd.pouchrich.v2"
RUNTIME = "rich"
"""A runtime of Docker's configuration: our type, configured by TEST_FILE (`rich_pods.configure`)."""


class Docker:
    """A running dockerd of `node`, without networks; `more` is of its daemon.json."""

    def __init__(self, node: Node, more: Mapping[str, object]) -> None:
        self.node = node
        self._directory = node.base / "docker"
        self._directory.mkdir(exist_ok=True)
        self._socket = self._directory / "docker.sock"
        runtime = {"runtimeType": TYPE, "options": {"ConfigPath": TEST_FILE}}
        settings = {"live-restore": True, "userland-proxy": False, "runtimes": {RUNTIME: runtime}, **more}
        (self._directory / "daemon.json").write_text(json.dumps(settings))
        self.start()

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        own = self._directory
        options = {
            "config-file": own / "daemon.json",
            "host": self._host,
            "containerd": self.node.socket,
            "data-root": own / "root",
            "exec-root": own / "run",
            "pidfile": own / "pid",
            "cgroup-parent": self.node.cgroup,
            "storage-driver": self._driver,
            "bridge": "none",
            "iptables": "false",
            "ip6tables": "false",
        }
        argv = [str(binaries.docker("dockerd")), *(f"--{name}={value}" for name, value in options.items())]
        self._pid = self.node.spawn(argv, own / "log")
        until(self._answers, f"dockerd to answer; see {own / 'log'}", timeout_s=30)

    @property
    def _driver(self) -> str:
        return "overlay2" if self.node.settings.snapshotter == "overlayfs" else "vfs"

    @property
    def _host(self) -> str:
        return f"unix://{self._socket}"

    def _answers(self) -> bool:
        assert processes.alive(self._pid), (self._directory / "log").read_text()[-2000:]
        return self.call("version").returncode == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Have dockerd end; with live-restore its containers go on."""
        os.kill(self._pid, number)
        until(lambda: not processes.alive(self._pid), "dockerd to end", timeout_s=30)

    def call(self, *words: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run docker."""
        argv = [str(binaries.docker("docker")), "--host", self._host, *words]
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self._directory)}
        return subprocess.run(argv, input=given, capture_output=True, timeout=60, check=False, env=env)

    def said(self, *words: str) -> str:
        """What docker prints. Raises AssertionError where it fails."""
        done = self.call(*words)
        assert done.returncode == 0, (words, done.stderr.decode())
        return done.stdout.decode().strip()

    def hold(self, system: System) -> str:
        """Have it hold the system's image, and return its name."""
        layer = rich_images.system_layer(system)
        assert layer.path is not None
        name = f"{system}:1"
        if not self.said("images", "--quiet", name):
            self.said("import", str(layer.path), name)
        return name

    def run(self, *words: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """`docker run`; the container is removed when it has ended."""
        return self.call("run", "--rm", "--network", "none", *words, given=given)

    def begin(self, *words: str) -> str:
        """`docker run --detach` with the runtime RUNTIME: the container's ID."""
        return self.said("run", "--detach", "--network", "none", "--runtime", RUNTIME, *words)

    def state(self, name: str, field: str) -> str:
        """A field of a container's state."""
        return self.said("inspect", "--format", f"{{{{.{field}}}}}", name)

    def close(self) -> None:
        """Remove all containers and end dockerd."""
        if names := self.said("ps", "--all", "--quiet").split():
            self.said("rm", "--force", *names)
        self.stop()
        for mount in reversed(self._mounts()):  # with live-restore dockerd leaves those that containers may need
            subprocess.run(["nsenter", f"--mount=/proc/{self.node.pid}/ns/mnt", "umount", mount], check=True)

    def _mounts(self) -> list[str]:
        lines = Path(f"/proc/{self.node.pid}/mountinfo").read_text().splitlines()
        return [at for line in lines if (at := line.split()[4]).startswith(f"{self._directory}/")]


@contextlib.contextmanager
def running(node: Node, **more: object) -> Iterator[Docker]:
    """Docker, for the length of the `with`."""
    found = Docker(node, more)
    try:
        yield found
    finally:
        found.close()
