"""The process under which one containerd, its shims and its containers live: `python -m tests.integration.reaper`.

It is their subreaper, so every process of a run is found below it however it was orphaned, and zombies do not stay.
Its mount namespace is its own: writes below /etc and /var/lib go to an overlay in `--scratch` (the node's
configuration, CNI's and the shim's records), and `--hide-unified` takes the v2 hierarchy of a hybrid host away, which
old crun wants.

Commands come as JSON lines on stdin, an answer to each on stdout:
`{"argv": [...], "env": {...}, "log": PATH}` starts a child (`{"pid": N}`), `{"files": {PATH: TEXT}}` writes files as
seen in this namespace (`{}`). At the end of stdin everything below this process is killed and it exits.
"""

import argparse
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.integration import isolation
from tests.integration.processes import descendants

UNIFIED = Path("/sys/fs/cgroup/unified")
GRACE_S = 5.0


def prepare(scratch: Path, *, hide_unified: bool) -> None:
    """Enter the namespace described above."""
    isolation.private_mounts()
    isolation.become_subreaper()
    for target in (Path("/etc"), Path("/var/lib")):
        isolation.overlay(target, scratch / target.name)
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


def perform(command: dict[str, Any]) -> dict[str, Any]:
    """Carry out one command and answer it."""
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


def serve() -> None:
    """Answer commands, and reap, until stdin ends."""
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
                print(json.dumps(perform(json.loads(line))), flush=True)


def sweep() -> None:
    """End everything below this process: SIGTERM to its direct children's daemons first, SIGKILL after GRACE_S."""
    end = time.monotonic() + GRACE_S
    for pid in descendants(os.getpid()):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "containerd":
            os.kill(pid, signal.SIGTERM)
    while pids := descendants(os.getpid()):
        containerd_ended = not any(_is_containerd(pid) for pid in pids)
        if containerd_ended or time.monotonic() > end:
            for pid in pids:
                _kill(pid)
        time.sleep(0.02)
        reap()


def _is_containerd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "containerd"
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--hide-unified", action="store_true")
    args = parser.parse_args()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    prepare(args.scratch, hide_unified=args.hide_unified)
    print(json.dumps({"pid": os.getpid()}), flush=True)
    try:
        serve()
    finally:
        sweep()
    return 0


if __name__ == "__main__":
    sys.exit(main())
