"""The process under which one containerd, its shims and its containers live.

It is their subreaper, so every process of a run is found below it however it was orphaned, and zombies do not
stay. Its mount namespace is its own: writes below the directories given as arguments go to overlays in `--scratch`
(the node's configuration, CNI's and the shim's records), and `--hide-unified` takes the v2 hierarchy of a hybrid
host away, which crun wants.

Commands come as JSON lines on stdin, an answer to each on stdout: `{"argv": [...], "env": {...}, "log": PATH}`
starts a child (`{"pid": N}`), `{"files": {PATH: TEXT}}` writes files as seen in this namespace (`{}`),
`{"halt": [PATH, ...]}` leaves of the node what a machine that was switched off would have: every process is killed,
every mount and cgroup made since the beginning goes, and the directories are removed (`{}`); `{"boot_id": TEXT}` has
the kernel's boot id read TEXT, or the machine's own again for "" (`{}`). At the end of stdin, however the tests ended,
everything below this process is killed and `--cgroup` removed, which is said (`{"ended": true}`). Then the files in
`--base` are removed, for which a busy disk may take minutes, and it exits.
"""

import argparse
import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration import cgroups, isolation
from tests.integration.processes import descendants

REMOVE_TIMEOUT_S = 20.0
UNIFIED = Path("/sys/fs/cgroup/unified")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def prepare(scratch: Path, directories: list[Path], *, hide_unified: bool) -> None:
    """Enter the namespace described above."""
    isolation.private_mounts()
    isolation.become_subreaper()
    for number, target in enumerate(directories):
        isolation.overlay(target, scratch / str(number))
    if hide_unified and os.path.ismount(UNIFIED):
        isolation.detach(UNIFIED)


def reap() -> None:
    """Collect every child that has ended."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def mounts() -> dict[str, Path]:
    """The mount points of this namespace by their ids, in the order in which they were mounted (proc(5), mountinfo)."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return {fields[0]: Path(fields[4]) for fields in lines}


def halt(known: frozenset[str], cgroup: str, directories: list[str]) -> None:
    """Take from the node what does not survive a reboot; `known` are the mounts that do."""
    sweep()
    for identity, point in reversed(mounts().items()):
        if identity not in known:
            isolation.detach(point)
    for directory in map(Path, directories):
        shutil.rmtree(directory, ignore_errors=True)  # the programs under test make it as on a machine that has booted
    within_time(lambda: cgroups.clear(cgroup))


def set_boot_id(text: str, scratch: Path) -> None:
    """Have this namespace read `text` as the machine's boot id, or the real one for ""."""
    while BOOT_ID in mounts().values():
        isolation.detach(BOOT_ID)
    if text:
        file = scratch / "boot_id"
        file.write_text(f"{text}\n")
        isolation.mount(str(file), BOOT_ID, "", flags=isolation.MS_BIND)


def perform(command: dict[str, Any], known: frozenset[str], args: argparse.Namespace) -> dict[str, Any]:
    """Carry out one command and answer it."""
    if "halt" in command:
        halt(known, args.cgroup, command["halt"])
        return {}
    if "boot_id" in command:
        set_boot_id(command["boot_id"], args.scratch)
        return {}
    if "files" in command:
        for name, text in command["files"].items():
            path = Path(name)
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_text(text)
        return {}
    with open(command["log"], "ab") as log:
        child = subprocess.Popen(
            command["argv"], env=command["env"], cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    child.returncode = 0  # collected by reap(); Popen must neither wait for it nor warn
    return {"pid": child.pid}


def serve(args: argparse.Namespace) -> None:
    """Answer commands, and reap, until stdin ends."""
    known = frozenset(mounts())
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    pending = b""
    while True:
        for key, _ in selector.select():
            chunk = os.read(key.fd, 1 << 16)
            if key.fd == wake_read:
                reap()
                continue
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                print(json.dumps(perform(json.loads(line), known, args)), flush=True)


def sweep() -> None:
    """Kill everything below this process, until nothing is left: the orphans of each round are the next one's."""
    while pids := descendants(os.getpid()):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
        reap()


def within_time(remove_cgroups: Callable[[], None]) -> None:
    """Repeat what fails with an OSError: a cgroup stays busy for a moment after its last process."""
    end = time.monotonic() + REMOVE_TIMEOUT_S
    while True:
        try:
            remove_cgroups()
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def let_go(base: Path, cgroup: str) -> None:
    """Take the node's cgroups away, and what a container that was killed has left mounted in its directory."""
    within_time(lambda: cgroups.remove(cgroup))
    for point in reversed(mounts().values()):
        if base in point.parents:
            isolation.detach(point)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--cgroup", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--hide-unified", action="store_true")
    parser.add_argument("directories", type=Path, nargs="*")
    args = parser.parse_args()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    prepare(args.scratch, args.directories, hide_unified=args.hide_unified)
    cgroups.make(args.cgroup)
    print(json.dumps({"pid": os.getpid()}), flush=True)
    try:
        serve(args)
    finally:
        sweep()
        let_go(args.base, args.cgroup)
        with contextlib.suppress(BrokenPipeError):  # the tests were killed
            print(json.dumps({"ended": True}), flush=True)
        shutil.rmtree(args.base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
