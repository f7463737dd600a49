"""Makes the node's root, given as a directory, this process's own root.

A pod with the node's / mounted somewhere, and with the node's PID namespace, then sees what an administrator sees: all
paths are the node's, including /proc and /run. Only processes that outlive the pod must not have the pod's mounts.
"""

import glob
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from pouchrich.node import InstallError, unpacked
from runtime.cgroup.locate import directories_of, hierarchies, memberships_of
from runtime.default_path import DEFAULT_PATH
from runtime.linux import syscalls

_MOUNT_POINT = "run/pouchrich-node-"
"""Beginning of a directory of the node's, which the artefact is mounted over for one process only. A PID follows."""

ENTERED = "POUCHRICH_ENTERED"
"""The environment variable that marks a program started by `run`."""

_MAIN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from pouchrich.__main__ import main
sys.exit(main())"""


def run(root: str, artefact: str, words: Sequence[str]) -> int:
    """Run `pouchrich WORDS` of the unpacked `artefact` with `root` as the root directory; return its exit status.

    Raises InstallError where the node's root is not at `root`; OSError.
    """
    return _run(root, artefact, words, None).returncode


def read(root: str, artefact: str, words: Sequence[str]) -> tuple[int, str]:
    """As `run`, but return also what it has printed, except for its errors, which are printed here too."""
    done = _run(root, artefact, words, subprocess.PIPE)
    return done.returncode, done.stdout


def _run(root: str, artefact: str, words: Sequence[str], output: int | None) -> "subprocess.CompletedProcess[str]":
    check(root)
    with _mount_point(root) as here:

        def enter() -> None:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
            syscalls.mount(artefact, f"{root}{here}", None, syscalls.MS_BIND | syscalls.MS_REC)
            os.chroot(root)
            os.chdir("/")

        python = f"{here}/{unpacked.PYTHON}"
        loader = [f"{here}/{unpacked.LOADER}", "--library-path", f"{here}/python/lib", "--argv0", python, python]
        argv = [*loader, "-IBS", "-c", _MAIN, f"{here}/{unpacked.SITE}", *words]
        sys.stdout.flush()
        env = {**os.environ, ENTERED: "yes", "PATH": DEFAULT_PATH}
        return subprocess.run(argv, preexec_fn=enter, env=env, stdout=output, text=True, check=False)


@contextmanager
def _mount_point(root: str) -> Iterator[str]:
    """A directory that the node does not use, as a path below `root`. Those of runs that were killed are removed.

    A directory that the node has could hold a configuration or data of the containerd that is to be changed.
    """
    name = f"{_MOUNT_POINT}{os.getpid()}"
    for path in glob.glob(f"{glob.escape(root)}/{_MOUNT_POINT}*"):
        if not os.path.exists(f"/proc/{path.rpartition('-')[2]}"):
            with suppress(OSError):
                os.rmdir(path)
    os.makedirs(f"{root}/{name}", mode=0o700, exist_ok=True)
    try:
        yield f"/{name}"
    finally:
        os.rmdir(f"{root}/{name}")


def check(root: str) -> None:
    """Raises InstallError unless the node's root is at `root`, with a /proc that has the same PIDs as ours."""
    if os.geteuid():
        raise InstallError("--root: needs root")
    try:
        if os.readlink(f"{root}/proc/self") != os.readlink("/proc/self"):
            raise InstallError(f"--root {root}: its /proc has other pids than ours: the pod needs hostPID: true")
    except OSError as err:
        raise InstallError(
            f"--root {root}: {err.filename}: {str(err.strerror).lower()}: mount the node's whole /"
        ) from err


def leave() -> None:
    """Enter the mount namespace, root and cgroups of process 1, if `run` gave this process others. Raises OSError.

    A containerd that is started here must not be killed with the pod's cgroups, or be bound by the pod's limits. If
    process 1 has more capabilities than this process, the kernel refuses its mount namespace (ptrace(2)).
    """
    if ENTERED not in os.environ:
        return
    _join_process_1()
    try:
        fd = os.open("/proc/1/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWNS)
    finally:
        os.close(fd)


def _join_process_1() -> None:
    with suppress(PermissionError), open("/proc/1/ns/cgroup") as namespace:  # or its paths lead out of ours
        syscalls.setns(namespace.fileno(), syscalls.CLONE_NEWCGROUP)
    with open("/proc/1/cgroup", "rb") as file:
        memberships = memberships_of(file.read())
    for directory in set(directories_of(memberships, hierarchies()).values()):
        with suppress(OSError), open(f"{directory}/cgroup.procs", "w") as procs:
            procs.write("0")
