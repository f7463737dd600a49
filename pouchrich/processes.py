"""Processes as /proc shows them (proc_pid_stat(5), proc_pid_cgroup(5)), and whose they are within a container."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

PROC = "/proc"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_COMMAND_BYTES = 4096
_FILE_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Process:
    """One look at a process. `parent` is a host pid, `cgroups` are by hierarchy.

    `cpu_ticks` is user and system time so far, `children_ticks` that of the children that it has waited for.
    The key of the unified hierarchy in `cgroups` is "", that of systemd's on v1 `name=systemd`.
    """

    pid: int
    parent: int
    name: str
    command: str
    cpu_ticks: int
    children_ticks: int
    started_ticks: int
    memory_bytes: int
    cgroups: Mapping[str, str]

    @property
    def identity(self) -> tuple[int, int]:
        """What tells it from a later process of the same number."""
        return self.pid, self.started_ticks


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _read(path: str) -> bytes:
    """A small file of /proc, which the kernel gives at one read; empty where there is none (any more)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _FILE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def words_of(pid: int, proc: str = PROC, *, most: int = _FILE_BYTES) -> list[str]:
    """The words of a process's command line, of `most` bytes of it; none where it has ended, reaped or not."""
    data = _read(f"{proc}/{pid}/cmdline")[:most].rstrip(b"\0")
    return [_text(word) for word in data.split(b"\0")] if data else []


def command_of(pid: int, proc: str = PROC) -> str:
    """The command line of a process, or "" where there is none."""
    return " ".join(words_of(pid, proc, most=_COMMAND_BYTES)).strip()


def first_child(pid: int, proc: str = PROC) -> int:
    """The oldest child of a process that is still there (proc_pid_tid_children(5)), 0 where none is known."""
    children = _read(f"{proc}/{pid}/task/{pid}/children").split()
    return int(children[0]) if children else 0


def look(pid: int, proc: str = PROC) -> Process | None:
    """The process, or None where it is gone or already a zombie."""
    directory = f"{proc}/{pid}"
    stat = _read(f"{directory}/stat")
    if not stat:
        return None
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    if fields[0] in b"ZX":
        return None
    cgroups = {}
    # At newlines alone, as a container can give its cgroup a name with any other character.
    for entry in filter(None, _text(_read(f"{directory}/cgroup")).split("\n")):
        _, names, path = [*entry.split(":", 2), "", ""][:3]
        cgroups.update(dict.fromkeys(names.split(","), path))
    return Process(
        pid,
        int(fields[1]),
        _text(name),
        command_of(pid, proc) or f"[{_text(name)}]",
        int(fields[11]) + int(fields[12]),
        int(fields[13]) + int(fields[14]),
        int(fields[19]),
        # From Linux 6.16 on this is exact, and the same field of `stat` is not.
        int((_read(f"{directory}/statm") or b"0 0").split()[1]) * _PAGE_BYTES,
        cgroups,
    )


def uptime_s(proc: str = PROC) -> float:
    """Seconds since boot, to which `started_ticks` counts. Raises OSError."""
    with open(f"{proc}/uptime") as file:
        return float(file.read().split()[0])


def unit_of(process: Process, init: Process) -> str:
    """The systemd unit that a process of a container is in by its cgroup, "" where there is none to be seen.

    The container's own cgroup is what is above the `init.scope` of its PID 1.
    """
    for hierarchy in ("name=systemd", ""):
        path, home = process.cgroups.get(hierarchy, ""), init.cgroups.get(hierarchy, "")
        if not home.endswith("/init.scope"):
            continue
        below = path.removeprefix(home.removesuffix("init.scope"))
        if below == path:
            continue
        parts = [part for part in below.split("/") if part.endswith((".service", ".scope"))]
        # user@1000.service has units of its own below it: the first is the one that this systemd knows.
        return parts[0] if parts else ""
    return ""


def roots(processes: Mapping[int, Process], init: int, known: Iterable[int]) -> dict[int, int]:
    """For each process but init the one it belongs to: one of `known`, a child of init, or one from outside.

    The last is what an exec begins with: its parent is not in the container.
    """
    stops = set(known)
    found: dict[int, int] = {}
    for pid in processes:
        at, seen = pid, {pid}
        while at not in stops and (parent := processes[at].parent) in processes and parent != init:
            if parent in seen:  # two looks at a changing tree
                break
            seen.add(parent)
            at = parent
        found[pid] = at
    found.pop(init, None)
    return found


def listed(pids: Iterable[int], proc: str = PROC) -> dict[int, Process]:
    """Look at all of them; those that have gone are left out."""
    found = {}
    for pid in pids:
        with suppress(ValueError, IndexError):
            if (one := look(pid, proc)) is not None:
                found[pid] = one
    return found
