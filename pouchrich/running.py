"""The containerds that run on this node, found by their sockets, and queried with their own programs.

A file need not describe what runs. The kernel names the process behind a socket (SO_PEERCRED, unix(7)), and /proc its
program and command line, so that very program is run to get its version and its configuration.
"""

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from pouchrich.containerd_config import DEFAULT, documents, version_of
from pouchrich.processes import PROC, TICKS_PER_S, look, uptime_s, words_of
from pouchrich.program import Program, failure
from runtime.default_path import DEFAULT_PATH
from runtime.errors import PouchrichError

SOCKETS = (
    ("containerd", "/run/containerd/containerd.sock"),
    ("k3s", "/run/k3s/containerd/containerd.sock"),  # rke2 uses it too
    ("k0s", "/run/k0s/containerd.sock"),
    ("microk8s", "/var/snap/microk8s/common/run/containerd.sock"),
)
"""Distribution, and the default socket of its containerd."""

WHERE = {
    "k3s": "k3s rewrites its containerd's config.toml at each start: put the handler into config.toml.tmpl or"
    " config-v3.toml.tmpl beside it",
    "rke2": "rke2 rewrites its containerd's config.toml at each start: put the handler into config.toml.tmpl or"
    " config-v3.toml.tmpl beside it",
    "k0s": "k0s writes its containerd's configuration: put the handler into a file in /etc/k0s/containerd.d/",
}
"""Where to put a handler, for distributions that rewrite containerd's own file."""

_TIMEOUT_S = 5.0
_NONE = Program("")


class Running(NamedTuple):
    """A containerd. `kind` is the distribution, `program` runs its executable once more, `pid` is 0 if unknown.

    `problem` says why it cannot be reached, "" if it can.
    """

    kind: str
    socket: str
    pid: int = 0
    program: Program = _NONE
    config: str = DEFAULT
    problem: str = ""


def find(sockets: Sequence[tuple[str, str]] = SOCKETS, *, proc: str = PROC) -> list[Running]:
    """The containerds whose socket exists."""
    return [_at(kind, path, proc) for kind, path in sockets if os.path.exists(path)]


def path_of(pid: int) -> str:
    """The PATH of a process: containerd finds shims on its PATH, and shims find an OCI runtime on theirs."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = [one for one in file.read().split(b"\0") if one.startswith(b"PATH=")]
    except OSError:
        found = []
    return os.fsdecode(found[0].removeprefix(b"PATH=")) if found else DEFAULT_PATH


def _at(kind: str, path: str, proc: str) -> Running:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_TIMEOUT_S)
        try:
            probe.connect(path)
            pid = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        except OSError as err:
            return Running(kind, path, problem=(err.strerror or str(err)).lower())
    process = look(pid, proc) if pid else None
    if process is None:
        return Running(kind, path, problem="the kernel does not tell which process listens there")
    words = words_of(pid, proc)
    if not words:
        return Running(kind, path, problem="the process that listened there has just ended")
    config = config_of(words)
    if not os.path.isabs(config):
        with suppress(OSError):
            config = os.path.normpath(os.path.join(os.readlink(f"{proc}/{pid}/cwd"), config))
    return Running("rke2" if "/rke2/" in config else kind, path, pid, Program(f"{proc}/{pid}/exe", words[0]), config)


def config_of(words: Sequence[str]) -> str:
    """The configuration that a containerd with this command line reads."""
    for at, word in enumerate(words[1:], 1):
        name, equals, value = word.partition("=")
        if name in ("-c", "-config", "--config"):
            return value if equals else next(iter(words[at + 1 :]), DEFAULT)
    return DEFAULT


def version(one: Running) -> tuple[int, int] | None:
    """Major and minor version of the running containerd, None if it does not tell."""
    return version_of(one.program)


def changed_since(one: Running) -> str:
    """A configuration file changed or removed since the containerd was started, or "". Raises PouchrichError."""
    process = look(one.pid, PROC)
    if process is None:
        return ""
    age_s = uptime_s(PROC) - process.started_ticks / TICKS_PER_S
    began = time.time() - age_s
    return next((path for path, _ in documents(one.config) if _changed_s(path) > began + 1), "")


def _changed_s(path: str) -> float:
    """When a file was last changed, in seconds since the epoch; now, if it has just been removed."""
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return time.time()


def failed_plugins(one: Running) -> Iterator[str]:
    """The CRI plugins that it could not load, by its own `ctr plugins ls`. Raises PouchrichError if nobody answers."""
    real = os.path.realpath(one.program.path)
    ctr = next(filter(None, (shutil.which("ctr", path=os.path.dirname(real)), shutil.which("ctr"))), None)
    if ctr is None:
        return
    try:
        words = [ctr, "--address", one.socket, "--timeout", f"{_TIMEOUT_S:g}s", "plugins", "ls"]
        answer = subprocess.run(words, capture_output=True, timeout=2 * _TIMEOUT_S, check=True)
    except subprocess.CalledProcessError as err:
        said = err.stderr.decode(errors="replace").strip().splitlines()
        raise PouchrichError(said[-1] if said else f"ctr: exit status {err.returncode}") from err
    except (OSError, subprocess.SubprocessError) as err:
        raise PouchrichError(f"ctr: {failure(err)}") from err
    for line in answer.stdout.decode(errors="replace").splitlines():
        words = line.split()
        if len(words) >= 4 and words[-1] == "error" and ("cri" in words[0] or words[1] == "cri"):
            yield f"{words[0]}.{words[1]}"


def dump(one: Running) -> str:
    """Its dumped configuration, below a line that says what it is; or why it cannot be dumped."""
    about = f"# {one.kind} at {one.socket}, configuration {one.config}\n"
    try:
        return about + one.program.output("--config", one.config, "config", "dump", timeout_s=2 * _TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as err:
        return f"{about}# {one.problem or err}\n"
