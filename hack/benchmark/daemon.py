"""Containers through containerd itself: one daemon for all shims, and its own client `ctr`, N of them at once."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.contest import Shim
from benchmark.place import Place
from tests.integration import images

IMAGE = images.BUSYBOX
ANSWERS_WITHIN_S = 30.0
CONFIG = """version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = [{disabled}]
[grpc]
address = "{base}/containerd.sock"
[ttrpc]
address = "{base}/containerd.sock.ttrpc"
"""
CRI = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime")
"""The CRI plugins, which are disabled: nobody needs them here, and they would look for CNI's files."""


class Containerd:
    """A containerd without CRI below `place`, which also ends it.

    `programs` holds containerd and ctr. Shims are named by path and get no runc options, so containerd's own shims find
    the OCI runtime `oci` as `runc` on their PATH; ours has it in its configuration. Raises RuntimeError.
    """

    def __init__(self, place: Place, programs: Path, oci: str) -> None:
        self._place = place
        self._ctr = [str(programs / "ctr"), "-a", f"{place.base}/containerd.sock"]
        self._serial = 0
        self._log = f"{place.base}/containerd.log"
        (place.base / "path").mkdir()
        (place.base / "path" / "runc").symlink_to(oci)
        for rich in (False, True):
            text = f'version = 1\n[runtime]\nbinary = "{oci}"\n[rich]\nenabled = {str(rich).lower()}\n'
            self._config_of(rich).write_text(text)
        disabled = ", ".join(f'"{name}"' for name in CRI)
        config = place.base / "containerd.toml"
        config.write_text(CONFIG.format(base=place.base, disabled=disabled))
        env = {"PATH": f"{place.base}/path:/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(place.base)}
        self._spawn([str(programs / "containerd"), "--config", str(config)], env)
        self._await_answer()
        images.busybox(place.base / "busybox.tar")
        self._wait([self._spawn([*self._ctr, "images", "import", f"{place.base}/busybox.tar"], dict(os.environ))])

    def _config_of(self, rich: bool) -> Path:
        return self._place.base / ("rich.toml" if rich else "plain.toml")

    def _await_answer(self) -> None:
        end = time.monotonic() + ANSWERS_WITHIN_S
        while os.waitpid(self._spawn([*self._ctr, "version"], dict(os.environ)), 0)[1]:
            if time.monotonic() > end:
                raise RuntimeError(f"containerd: no answer within {ANSWERS_WITHIN_S} s: {self._tail()}")
            time.sleep(0.1)

    def run(self, shim: Shim, count: int) -> float:
        """`ctr run --rm` of `count` containers at once that run `true`; return the seconds until the last ctr ends."""
        commands = [self._run_argv(shim) for _ in range(count)]
        began = time.perf_counter()
        self._wait([self._spawn(argv, dict(os.environ)) for argv in commands])
        return time.perf_counter() - began

    def _run_argv(self, shim: Shim) -> list[str]:
        self._serial += 1
        name = f"ctr-{self._serial}"
        flags = ["--rm", "--runtime", shim.path, "--cgroup", f"{self._place.cgroup}/{name}"]
        if shim.is_ours:
            flags += ["--runtime-config-path", str(self._config_of(shim.rich))]
        return [*self._ctr, "run", *flags, IMAGE, name, "/bin/true"]

    def _spawn(self, argv: Sequence[str], env: dict[str, str]) -> int:
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        streams += [(os.POSIX_SPAWN_OPEN, fd, self._log, append, 0o600) for fd in (1, 2)]
        return os.posix_spawn(argv[0], argv, env, file_actions=streams)

    def _wait(self, pids: Sequence[int]) -> None:
        failed = [pid for pid in pids if os.waitpid(pid, 0)[1]]
        if failed:
            raise RuntimeError(f"ctr: {len(failed)} of {len(pids)} failed: {self._tail()}")

    def _tail(self) -> str:
        return "\n".join(Path(self._log).read_text(errors="replace").splitlines()[-20:])
