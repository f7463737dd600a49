"""What a create leaves that was cut short: an OCI runtime that goes on alone, an init, and cgroups that nobody noted.

crun and runc make a container's cgroups before they write down that there is a container, crun its init as well, and
their `delete` knows only what is written down. Until it is started crun's init has the command line of the create,
runc's its own (`runc init`), and what a runtime was killed over waits for it without an end. So whatever the runtime,
what is in the container's own cgroups goes with them.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from runtime.bundle import Bundle
from runtime.errors import InvalidArgument, PouchrichError
from runtime.init.cgroup import NESTED, path_of
from runtime.linux import command_line, mountinfo, pidfd, readable

DYING_S = 3.0
"""For processes that end with their OCI runtime: on a busy machine a killed one may take a second."""

_PAUSE_S = 0.01


def let_end(bundle: str, *, patience_s: float) -> None:
    """Wait until no OCI runtime creates a container from `bundle` any more; kill what takes longer than `patience_s`.

    For when the pod server that began it was killed: what a create makes after the `delete` would be there for good.
    """
    until = time.monotonic() + patience_s
    ours = os.readlink("/proc/self/ns/pid")
    for pid, fd in _creates(bundle):
        with suppress(OSError):  # it has ended
            if os.readlink(f"/proc/{pid}/ns/pid") == ours:  # else it is an init
                _await_end(fd, until)


def remove_rest(bundle: str, container_id: str, *, patience_s: float) -> None:
    """Remove what the OCI runtime's `delete` does not know of, when no runtime is at work any more. Raises nothing.

    Processes have `patience_s` to be gone.
    """
    with suppress(PouchrichError, OSError):  # without its config.json there is nothing to go by
        end_creates(bundle)
        remove_cgroups(Bundle(bundle).load_spec(), container_id, patience_s=patience_s)


def end_creates(bundle: str) -> None:
    """Kill what creates a container from `bundle`, and what waits to be its init. Raises OSError."""
    for _, fd in _creates(bundle):
        _await_end(fd, 0.0)


def _creates(bundle: str) -> Iterator[tuple[int, int]]:
    """The processes that create a container from `bundle`, or wait to be its init: pid, and a pidfd for the while."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError):  # it has ended, or there is no descriptor left to look at it
            fd = pidfd.open(int(name))
            try:
                if _has_words(name, "create", bundle):
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
    """Remove the container's cgroups, by what its `spec` says, and what is below them, processes included.

    Those have `patience_s` to be gone. Where the path does not bear the container's id, the cgroup may be somebody
    else's as well: a tree in which a process lives then stays whole. So it does without `container_id`. Returns whether
    those that bear it are gone.
    """
    own: list[str] = []
    with suppress(InvalidArgument):  # of no form that says where it is
        paths = {path_of(dict(spec), systemd=systemd) for systemd in (True, False)} - {"/"}
        roots = [
            entry.mount_point
            for entry in mountinfo.read(mounts, fstypes=mountinfo.CGROUPS)
            # Without this file it is covered by another mount, in which a runtime may have made plain files.
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
    """Whether a cgroup is named for the container, by containerd (.../ID) or systemd (.../PREFIX-ID.scope)."""
    parts = path.split("/")
    name = parts[-2] if parts[-1] == NESTED else parts[-1]
    return name == container_id or name.endswith(f"-{container_id}.scope")


def _kill_all(tops: Iterable[str]) -> bool:
    """SIGKILL every process in these trees; whether there was one. None where this process itself is among them."""
    found = [(pid, directory) for top in tops for directory, _, _ in os.walk(top) for pid in _processes(directory)]
    if any(pid == os.getpid() for pid, _ in found):
        return False
    for top in tops:
        with suppress(OSError), open(f"{top}/freezer.state", "r+") as file:  # v1: what is frozen does not die
            file.write("THAWED")
    for pid, directory in found:
        with suppress(OSError, ValueError):  # it has ended, or has no number here (0)
            fd = pidfd.open(pid)
            try:
                if pid in _processes(directory):  # still the one that was listed
                    pidfd.send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)
    return bool(found)


def _remove(top: str) -> bool:
    """Whether the directory is gone, and all below it."""
    directories = [directory for directory, _, _ in os.walk(top, topdown=False)]
    if not any(map(_processes, directories)):
        for directory in directories:
            with suppress(OSError):  # one has come, or it is gone already
                os.rmdir(directory)
    return not os.path.isdir(top)


def _processes(directory: str) -> list[int]:
    try:
        with open(f"{directory}/cgroup.procs") as file:
            return [int(line) for line in file]
    except (OSError, ValueError):
        return []
