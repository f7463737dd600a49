"""Installs the shim on a cluster's node, or removes it: versions, handler and containerd. Each step is repeatable."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress

from pouchrich import running
from pouchrich.checks import Check
from pouchrich.cluster import handling, hold, host, place, preflight, restart, trial
from pouchrich.containerd_config import handlers
from pouchrich.node import InstallError, apparmor, current, install, uninstall
from pouchrich.node.layout import PROGRAMS, Layout
from pouchrich.node.lock import locked
from pouchrich.running import Running

RESTART_OWED = 3
"""Exit status: everything is in place, but containerd has not read its configuration, and was not to be restarted."""

_POLL_S = 2.0
_SETTLE_AGAIN_S = 300.0
_SETTLING_S = 60.0
"""The timeout of `node settle`, which leaves processes behind and waits for none."""


def look(layout: Layout, containerd: str, address: str | None) -> tuple[Running, list[Check]]:
    """The containerd to use, and the checks of the node. Raises InstallError where there is no containerd."""
    one = preflight.the_one(containerd, address)
    return one, [*preflight.node(layout), *preflight.containerd(one, layout, layout.config)]


def take_up(
    layout: Layout,
    directory: str,
    version: str,
    *,
    containerd: str,
    address: str | None = None,
    how: str = restart.AS_FOUND,
    unattended: bool = False,
) -> int:
    """Install the artefact in `directory` and have containerd use it; return the exit status, 0 or RESTART_OWED.

    `containerd` is a distribution or "auto"; `how` says how to restart it (`restart.command`). Raises InstallError if
    nothing was changed, or the handler is where it was before; OSError.
    """
    hold.refuse()
    one, found = look(layout, containerd, address)
    preflight.refuse(found)
    release = running.version(one)
    assert release is not None  # preflight has checked it
    path = "" if preflight.finds_shim(one, layout) else layout.target(PROGRAMS[0])
    there = place.find(one, release[0], runtime_path=path)
    words = restart.command(one, how)
    if handling.recorded(layout) is None:
        before = trial.dump(one, there.version)
        if not trial.has_handler(before):
            trial.fit(one, there, before)
    install.install(layout, directory, version, unattended=unattended)
    with locked(layout):
        one = restart.again(one)
        handling.put(layout, one, place.find(one, release[0], runtime_path=path))
        try:
            is_read = restart.do(layout, one, words)
        except InstallError:
            with suppress(InstallError):
                handling.take_out(layout, restart.at(one) or one)
                sys.stderr.write("install: removed the handler again\n")
                restart.do(layout, one, words)
            raise
    if not is_read:
        print(f"containerd at {one.socket} has not read its configuration yet: restart it")
        return RESTART_OWED
    return 0


def give_back(
    layout: Layout,
    *,
    force: bool = False,
    wait_s: float = 0.0,
    how: str = restart.AS_FOUND,
    address: str | None = None,
) -> None:
    """Remove the handler from containerd's configuration, and remove all versions.

    Raises InstallError, unless `force`, if pods or poststop hooks still need them after `wait_s`; or if nothing is
    installed here, but a containerd at one of the usual sockets or `address` has our handler, and its shim exists.
    Raises OSError.
    """
    hold.refuse()
    if not force:
        _refuse_elsewhere(layout, address)
    warn(needed(layout, force=force, wait_s=wait_s))
    if reader := handling.recorded(layout) or handling.owed(layout):
        one = restart.at(Running(reader.kind, reader.socket))
        one = one if one is not None and one.pid else None
        words = None if one is None else restart.command(one, how)
        with locked(layout):
            handling.take_out(layout, one)
            if one is not None and not restart.do(layout, one, words):
                raise InstallError(f"{one.socket}: containerd still has the handler: restart it, then run this again")
        warn(needed(layout, force=force, wait_s=wait_s))
    with locked(layout) if os.path.isdir(layout.home) else nullcontext():
        uninstall.remove(layout)


def _refuse_elsewhere(layout: Layout, address: str | None) -> None:
    if os.path.isdir(layout.home) and os.listdir(layout.home):
        return
    sockets = [*running.SOCKETS, *([("containerd", address)] if address else [])]
    for one in running.find(sockets):
        if one.pid and _is_handler_in_dump(one) and _has_shim(one):
            raise InstallError(
                f"{layout.where}: nothing is installed there, but {one.config} has the handler {place.HANDLER}: give "
                "the --prefix that it was installed with, or remove the handler by hand"
            )


def _is_handler_in_dump(one: Running) -> bool:
    """Whether the containerd has our handler; False if it cannot dump its configuration."""
    with suppress(InstallError):
        return trial.has_handler(trial.dump(one))
    return False


def _has_shim(one: Running) -> bool:
    """Whether the shim of one of our handlers in the configuration exists, so is installed somewhere."""
    named = [found.runtime_path for found in handlers(one.config, major=2)]
    where = (path if path else shutil.which(PROGRAMS[0], path=running.path_of(one.pid)) for path in named)
    return any(path is not None and os.access(path, os.X_OK) for path in where)


def _settle(layout: Layout) -> None:
    """Run `node settle`, which runs abandoned hooks, such as hooks owed since before the node's last boot.

    Usually the start of a pod does that, but a node that is being uninstalled may get no new pods. The node's own
    program runs with the node's mounts and outside the cgroup of our pod, so the hooks go on after this has ended.
    """
    words = [layout.target(PROGRAMS[1]), "node", "settle"]
    with suppress(OSError, subprocess.SubprocessError):  # an older version does not know the word
        subprocess.run(words, capture_output=True, timeout=_SETTLING_S, check=False, preexec_fn=host.leave)


def needed(layout: Layout, *, force: bool, wait_s: float, settle: Callable[[Layout], None] = _settle) -> str:
    """Wait up to `wait_s` until nothing needs the shim; then as `uninstall.check`. Raises InstallError."""
    end = time.monotonic() + wait_s
    needs, settled = list(uninstall.needing(layout)), time.monotonic()
    if needs and not force:
        settle(layout)
    if needs and wait_s and not force:
        print("\n".join(["waiting: these need the shim:", *needs]), flush=True)
    while needs and not force and time.monotonic() < end:
        if time.monotonic() > settled + _SETTLE_AGAIN_S:
            settle(layout)
            settled = time.monotonic()
        time.sleep(_POLL_S)
        needs = list(uninstall.needing(layout))
    return uninstall.check(layout, force=force)


def warn(words: str) -> None:
    """Print a warning."""
    if words:
        sys.stderr.write(f"install: {words}\n")


def roll_back(layout: Layout) -> None:
    """Run the previous version again. Raises InstallError, OSError."""
    hold.refuse()
    with locked(layout):
        former, wanted = current.roll_back(layout)
        apparmor.put(layout)
    print(f"{wanted} is the current version again; {former} stays for the pods that run with it")
