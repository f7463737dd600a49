"""Restarts a containerd, so that it reads its configuration, and checks that it has restarted.

Pods go on running. If the process is in the cgroup of a systemd service (for k3s and rke2 that is their own service),
systemd restarts the service. systemctl does not wait: rke2-server's unit (Type=notify, TimeoutStartSec=0) counts as
started when its control plane is up, long after its containerd, whose socket is watched instead. k0s restarts its
containerd itself when a file in containerd.d changes. A command runs with the mounts of the node's process 1.
"""

import os
import re
import shlex
import subprocess
import time

from pouchrich import running
from pouchrich.cluster import handling, host
from pouchrich.node import InstallError
from pouchrich.node.layout import Layout
from pouchrich.processes import look
from pouchrich.program import failure
from pouchrich.running import Running
from runtime.errors import PouchrichError

AS_FOUND, NEVER = "auto", "never"
PATIENCE_S = 120.0
_LONGER_S = {"k3s": 600.0, "rke2": 600.0}
"""Timeouts by distribution, where the service has more to do before it starts its containerd."""

_POLL_S = 0.2
_SERVICE = re.compile(r"/([^/]+\.service)(?=/|$)")
_SYSTEMD = "/run/systemd/system"
"""Exists where systemd is PID 1 (sd_booted(3))."""


def command(one: Running, how: str) -> list[str] | None:
    """The command that restarts the containerd; [] where k0s does it, None where it must not be restarted.

    `how` is AS_FOUND, NEVER or a command line. Raises InstallError where AS_FOUND finds no way.
    """
    if how == NEVER:
        return None
    if how != AS_FOUND:
        return _words(how)
    if one.kind == "k0s":
        return []
    if (unit := unit_of(one.pid)) and os.path.isdir(_SYSTEMD):
        return ["systemctl", "restart", "--no-block", unit]
    raise InstallError(
        f"{one.socket}: process {one.pid} is in no systemd service, so this program cannot restart containerd: "
        "give --restart COMMAND, or give --restart never and restart it by hand"
    )


def _words(how: str) -> list[str]:
    try:
        words = shlex.split(how)
    except ValueError as err:
        raise InstallError(f"--restart: found {how!r}, {str(err).lower()}: quote it as for a shell") from err
    if not words:
        raise InstallError(f"--restart: found {how!r}, allowed {AS_FOUND}, {NEVER} or a command")
    return words


def unit_of(pid: int) -> str:
    """The systemd service that a process is in, the innermost of several; "" for none."""
    process = look(pid)
    found = [_SERVICE.findall(path) for path in (process.cgroups.values() if process else ())]
    return next((units[-1] for units in found if units), "")


def do(layout: Layout, one: Running, words: list[str] | None) -> bool:
    """Restart the containerd if that is owed, and wait until it serves. Return whether it has read its configuration.

    Raises InstallError where it does not come back in time, or comes back without its CRI plugin.
    """
    now = at(one)
    if handling.owed(layout) is None or (now is not None and _has_read(layout, now)):
        handling.settle(layout)
        return True
    if words is None:
        return False
    if words:
        print(f"restarting containerd: {shlex.join(words)}")
        _run(words, patience_s(one))
    end = time.monotonic() + patience_s(one)
    while True:
        now = at(one)
        if now is not None and _has_read(layout, now) and (failed := _failed(now)) is not None:
            if failed:
                raise InstallError(f"{one.socket}: containerd could not load {', '.join(failed)}: see its log")
            handling.settle(layout)
            return True
        if time.monotonic() > end:
            state = now.problem if now is not None else "does not listen"
            raise InstallError(
                f"{one.socket}: containerd has not restarted within {patience_s(one):g} s: {state or 'see its log'}"
            )
        time.sleep(_POLL_S)


def patience_s(one: Running) -> float:
    """How many seconds a containerd may take to come up."""
    return _LONGER_S.get(one.kind, PATIENCE_S)


def again(one: Running) -> Running:
    """The containerd `one` as it is now. Raises InstallError where it is gone."""
    now = at(one)
    if now is None or not now.pid:
        raise InstallError(f"{one.socket}: containerd ended meanwhile: start it, then run this again")
    return now


def at(one: Running) -> Running | None:
    """The containerd that now listens on the socket of `one`, None for none."""
    found = running.find(((one.kind, one.socket),))
    return found[0] if found else None


def _has_read(layout: Layout, now: Running) -> bool:
    return bool(now.pid) and not handling.owes_restart(layout, now)


def _failed(one: Running) -> list[str] | None:
    """The CRI plugins that containerd could not load; it loads them before it listens. None if it does not tell yet."""
    try:
        return list(running.failed_plugins(one))
    except PouchrichError:
        return None


def _run(words: list[str], limit_s: float = PATIENCE_S) -> None:
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
            env={**os.environ, "SYSTEMD_IGNORE_CHROOT": "1"},  # a pod's mount namespace looks like a chroot
            preexec_fn=None if words[0] == "systemctl" else host.leave,
        )
    except (OSError, subprocess.SubprocessError) as err:
        raise InstallError(f"{shlex.join(words)}: {failure(err)}") from err
    if done.returncode:
        raise InstallError(f"{shlex.join(words)}: exit status {done.returncode}: {done.stdout.strip()[-500:]}")
