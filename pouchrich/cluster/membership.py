"""This node's part in a cluster taken up and given back: versions, handler and containerd, each step safe to repeat."""

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
"""Exit status: all is in place, but containerd has not read it, and nobody was to start it anew."""

_POLL_S = 2.0
_SETTLE_AGAIN_S = 300.0
_SETTLING_S = 60.0
"""It leaves processes behind, and waits for none."""


def look(layout: Layout, containerd: str, address: str | None) -> tuple[Running, list[Check]]:
    """The containerd that is meant, and what of the node was looked at. Raises InstallError where there is none."""
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
    """Install the artefact in `directory` and have containerd use it: the exit status, 0 or RESTART_OWED.

    `containerd` is a distribution or "auto", `how` who starts it anew (`restart.command`). Raises InstallError, before
    which nothing was changed, or after which the handler is where it was; OSError.
    """
    hold.refuse()
    one, found = look(layout, containerd, address)
    preflight.refuse(found)
    release = running.version(one)
    assert release is not None  # preflight has seen it
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
                sys.stderr.write("install: the handler was taken out again\n")
                restart.do(layout, one, words)
            raise
    if not is_read:
        print(f"containerd at {one.socket} has not read its configuration yet: start it anew")
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
    """Take the handler out of containerd's configuration, and all versions away.

    Raises InstallError where pods or poststop hooks still need them after `wait_s`, or where there is nothing to give
    back but a containerd, at one of the usual sockets or `address`, has our handler, which leads to a shim that is
    there, unless `force`; OSError.
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
                raise InstallError(
                    f"{one.socket}: containerd still has the handler: start it anew, then run this again"
                )
        warn(needed(layout, force=force, wait_s=wait_s))
    with locked(layout) if os.path.isdir(layout.home) else nullcontext():
        uninstall.remove(layout)


def _refuse_elsewhere(layout: Layout, address: str | None) -> None:
    if os.path.isdir(layout.home) and os.listdir(layout.home):
        return
    sockets = [*running.SOCKETS, *([("containerd", address)] if address else [])]
    for one in running.find(sockets):
        if one.pid and _has_handler(one) and _has_shim(one):
            raise InstallError(
                f"{layout.where}: nothing is installed there, but {one.config} has the handler {place.HANDLER}: give "
                "the --prefix that it was installed with, or take the handler out of there by hand"
            )


def _has_handler(one: Running) -> bool:
    """Whether it is ours; a containerd that does not say what its configuration is says nothing of that either."""
    with suppress(InstallError):
        return trial.has_handler(trial.dump(one))
    return False


def _has_shim(one: Running) -> bool:
    """Whether the shim is there that a handler of ours in its configuration leads to: so it is installed somewhere."""
    named = [found.runtime_path for found in handlers(one.config, major=2)]
    where = (path if path else shutil.which(PROGRAMS[0], path=running.path_of(one.pid)) for path in named)
    return any(path is not None and os.access(path, os.X_OK) for path in where)


def _settle(layout: Layout) -> None:
    """Have settled what is in nobody's care, such as hooks owed since before the node's last boot.

    A pod's start sees to it, and there may be none any more: new ones do not come to a node that is given back. It is
    the node's own program that does it, with the node's mounts and outside of the cgroup of a pod that this may be in:
    hooks go on when this has ended.
    """
    words = [layout.target(PROGRAMS[1]), "node", "settle"]
    with suppress(OSError, subprocess.SubprocessError):  # one of before that has no such word
        subprocess.run(words, capture_output=True, timeout=_SETTLING_S, check=False, preexec_fn=host.leave)


def needed(layout: Layout, *, force: bool, wait_s: float, settle: Callable[[Layout], None] = _settle) -> str:
    """A warning of what is lost (`uninstall.check`), after as long a wait for nothing to be. Raises InstallError."""
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
    """Say what is lost."""
    if words:
        sys.stderr.write(f"install: {words}\n")


def roll_back(layout: Layout) -> None:
    """Have the version of before be run again. Raises InstallError, OSError."""
    hold.refuse()
    with locked(layout):
        former, wanted = current.roll_back(layout)
        apparmor.put(layout)
    print(f"{wanted} is run again; {former} stays, for pods that run with it")
