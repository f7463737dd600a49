"""The process table as /proc tells it (proc(5)). A process that ends while being looked at is not there."""

import os
from contextlib import suppress
from pathlib import Path

LOOKS = 5
"""At most, where processes come and go all the time."""


def parents() -> dict[int, int]:
    """pid -> parent pid of every process, zombies included."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path("/proc", name, "stat").read_text()
        except OSError:
            continue
        found[int(name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def descendants(root: int) -> list[int]:
    """The pids of everything below root, parents before children.

    Who loses its parent while /proc is read may be seen below nobody, so a look counts that the next one agrees with.
    """
    found = _seen_below(root)
    for _ in range(LOOKS):
        before, found = found, _seen_below(root)
        if found == before:
            break
    return found


def _seen_below(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def command(pid: int) -> str:
    """The command line, or the name in brackets of one that has none (a zombie); "" once it is gone."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return line or f"[{Path(f'/proc/{pid}/comm').read_text().strip()}]"
    except OSError:
        return ""


def status(pid: int) -> str:
    """/proc/PID/status; "" once it is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def state(pid: int) -> str:
    """The state letter (R, S, D, T, Z ...); "" once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def catches(pid: int, number: int) -> bool:
    """Whether pid has a handler for signal `number`."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def alive(pid: int) -> bool:
    """Whether pid runs: a zombie does not."""
    return state(pid) not in ("", "Z", "X")


def is_spawner(pid: int) -> bool:
    """Whether it is our shims' spawner, a child that it has ready, or has become its program and is on its way."""
    line = command(pid)
    return line in ("pouchrich-spawner", "pouchrich-spawner prefork") or "entry.main(sys.argv" in line


def open_files(pid: int) -> list[str]:
    """What each descriptor of a process is open for, as the kernel names it."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(link))
    return found
