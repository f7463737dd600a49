"""Cleans up after an interrupted create: an OCI runtime that continues alone, an init, and cgroups nobody recorded.

crun and runc make a container's cgroups before they record that the container exists, crun also its init, and their
`delete` only knows what is recorded. Until it is started, crun's init has the command line of the create and runc's has
its own (`runc init`). An init whose OCI runtime was killed waits for it forever. So for every OCI runtime the
container's own cgroups are removed with all processes in them.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from runtime.bundle import Bundle
from runtime.errors import InvalidArgument, PouchrichError
from runtime.host import NESTED
from runtime.init.cgroup import path_of
from runtime.linux import command_line, mountinfo, pidfd, readable

DYING_S = 3.0
"""Seconds for processes that end with their OCI runtime: on a busy machine a killed one may take a second."""

_PAUSE_S = 0.01


def wait_for_creates(bundle: str, *, patience_s: float) -> None:
    """Wait until no OCI runtime creates a container from `bundle`; kill one that takes longer than `patience_s`.

    Call this after the pod server that began the create was killed: what a create makes after the `delete` would stay
    for good.
    """
    until = time.monotonic() + patience_s
    for _, fd in _creates(bundle, inside=os.readlink("/proc/self/ns/pid")):  # no init
        _await_end(fd, until)


def remove_leftovers(bundle: str, container_id: str, *, patience_s: float) -> None:
    """Remove what the OCI runtime's `delete` does not know of, once no OCI runtime is running. Raises nothing.

    Processes get `patience_s` seconds to end.
    """
    with suppress(PouchrichError, OSError):  # without its config.json nothing says where to look
        kill_creates(bundle)
        remove_cgroups(Bundle(bundle).load_spec(), container_id, patience_s=patience_s)


def kill_creates(bundle: str) -> None:
    """Kill the OCI runtime that creates a container from `bundle`, and a waiting init. Raises OSError."""
    for _, fd in _creates(bundle):
        _await_end(fd, 0.0)


def _creates(bundle: str, *, inside: str = "") -> Iterator[tuple[int, int]]:
    """The processes that create a container from `bundle` or wait to be its init: PID and pidfd, valid for one step.

    With `inside` only those in that PID namespace, as /proc shows it. A process of another namespace, which can keep
    its command line from being read by forking (fs/proc/base.c, get_mm_cmdline), is not looked at then.
    """
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError):  # the process has ended, or no descriptor is left to examine it
            fd = pidfd.open(int(name))
            try:
                if inside in ("", os.readlink(f"/proc/{name}/ns/pid")) and _has_words(name, "create", bundle):
                    yield int(name), fd
            finally:
                os.close(fd)


def _has_words(pid: str, *words: str) -> bool:
    shown = b"\0" + command_line.read(pid)
    return all(b"\0" + os.fsencode(word) + b"\0" in shown for word in words)


def _await_end(fd: int, until: float) -> None:
    if not readable.within(fd, until - time.monotonic()):
        with suppress(ProcessLookupError):
            pidfd.send_signal(fd, signal.SIGKILL)
        readable.within(fd, DYING_S)


def remove_cgroups(
    spec: Mapping[str, Any], container_id: str = "", *, patience_s: float, mounts: str = "/proc/self/mountinfo"
) -> bool:
    """Remove the cgroups that `spec` gives the container, and all below them. Returns whether its own are gone.

    The container's own cgroups are those whose path contains `container_id`. Their processes are killed and get
    `patience_s` seconds to end. Another cgroup, or every one without `container_id`, may be in use by somebody else: a
    tree with a process in it then stays whole.
    """
    own: list[str] = []
    with suppress(InvalidArgument):  # cgroupsPath has a form that does not say where the cgroup is
        paths = {path_of(dict(spec), systemd=systemd) for systemd in (True, False)} - {"/"}
        roots = [
            entry.mount_point
            for entry in mountinfo.read(mounts, fstypes=mountinfo.CGROUPS)
            # A mount without this file is covered by another one, in which an OCI runtime may have made plain files.
            if entry.root == "/" and os.path.exists(f"{entry.mount_point}/cgroup.procs")
        ]
        tops = [root + path for root in roots for path in paths]
        own = [root + path for root in roots for path in paths if _bears(path, container_id)]
        until = time.monotonic() + patience_s
        while _kill_all(own) and time.monotonic() < until:
            time.sleep(_PAUSE_S)
        for top in tops:
            while not _remove(top) and time.monotonic() < until:
                time.sleep(_PAUSE_S)
            if os.path.basename(top) == NESTED:  # the level above is the container's own too
                with suppress(OSError):
                    os.rmdir(os.path.dirname(top))
    return not any(map(os.path.isdir, own))


def _bears(path: str, container_id: str) -> bool:
    """Whether a cgroup is named after the container, by containerd (.../ID) or systemd (.../PREFIX-ID.scope)."""
    parts = path.split("/")
    name = parts[-2] if parts[-1] == NESTED else parts[-1]
    return name == container_id or name.endswith(f"-{container_id}.scope")


def _kill_all(tops: Iterable[str]) -> bool:
    """SIGKILL every process in these trees and return whether there was one; kill none if this process is in them."""
    found = [(pid, directory) for top in tops for directory, _, _ in os.walk(top) for pid in _processes(directory)]
    if any(pid == os.getpid() for pid, _ in found):
        return False
    for top in tops:
        with suppress(OSError), open(f"{top}/freezer.state", "r+") as file:  # v1: a frozen process does not die
            file.write("THAWED")
    for pid, directory in found:
        with suppress(OSError, ValueError):  # the process has ended, or has no PID in this namespace (0)
            fd = pidfd.open(pid)
            try:
                if pid in _processes(directory):  # still the process that was listed
                    pidfd.send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)
    return bool(found)


def _remove(top: str) -> bool:
    """Remove the tree if no process is in it; whether the directory is gone."""
    directories = [directory for directory, _, _ in os.walk(top, topdown=False)]
    if not any(map(_processes, directories)):
        for directory in directories:
            with suppress(OSError):  # a process has come, or the directory is already gone
                os.rmdir(directory)
    return not os.path.isdir(top)


def _processes(directory: str) -> list[int]:
    try:
        with open(f"{directory}/cgroup.procs") as file:
            return [int(line) for line in file]
    except (OSError, ValueError):
        return []
