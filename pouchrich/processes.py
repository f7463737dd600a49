"""Processes as /proc shows them (proc_pid_stat(5), proc_pid_cgroup(5)), and their roles within a container."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

PROC = "/proc"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_COMMAND_BYTES = 4096
_FILE_BYTES = 1 << 14


class Process(NamedTuple):
    """One look at a process. `parent` is a host PID, `cgroups` maps hierarchies to paths.

    `cpu_ticks` is user and system time so far, `children_ticks` that of the children that it has waited for.
    In `cgroups` the key of the unified hierarchy is "", that of systemd's hierarchy on v1 `name=systemd`.
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
        """What distinguishes the process from a later one with the same PID."""
        return self.pid, self.started_ticks


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _read(path: str) -> bytes:
    """A small file of /proc, which one read returns whole; empty if it does not exist (any more)."""
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
    """The words in the first `most` bytes of a process's command line; none if it has ended, reaped or not."""
    data = _read(f"{proc}/{pid}/cmdline")[:most].rstrip(b"\0")
    return [_text(word) for word in data.split(b"\0")] if data else []


def command_of(pid: int, proc: str = PROC) -> str:
    """The command line of a process, or "" if it has none."""
    return " ".join(words_of(pid, proc, most=_COMMAND_BYTES)).strip()


def name_of(pid: int, proc: str = PROC) -> str:
    """The name of a process in brackets, "" if it is gone: what `command_of` is where nobody reads the command.

    A process keeps its command line from being read while it forks (fs/proc/base.c, get_mm_cmdline).
    """
    name = _text(_read(f"{proc}/{pid}/comm")).rstrip("\n")
    return f"[{name}]" if name else ""


def first_child(pid: int, proc: str = PROC) -> int:
    """The oldest remaining child of a process (proc_pid_tid_children(5)), 0 if none is known."""
    children = _read(f"{proc}/{pid}/task/{pid}/children").split()
    return int(children[0]) if children else 0


def look(pid: int, proc: str = PROC, command: Callable[[int, str], str] = command_of) -> Process | None:
    """The process, or None where it is gone or already a zombie. `command` is `command_of` or `name_of`."""
    directory = f"{proc}/{pid}"
    stat = _read(f"{directory}/stat")
    if not stat:
        return None
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    fields = rest.split()
    if fields[0] in b"ZX":
        return None
    cgroups = {}
    # Split at newlines only: a container can give its cgroup a name with any other character.
    for entry in filter(None, _text(_read(f"{directory}/cgroup")).split("\n")):
        _, names, path = [*entry.split(":", 2), "", ""][:3]
        cgroups.update(dict.fromkeys(names.split(","), path))
    return Process(
        pid,
        int(fields[1]),
        _text(name),
        command(pid, proc) or f"[{_text(name)}]",
        int(fields[11]) + int(fields[12]),
        int(fields[13]) + int(fields[14]),
        int(fields[19]),
        # From Linux 6.16 on this value is exact; the same field of `stat` is not.
        int((_read(f"{directory}/statm") or b"0 0").split()[1]) * _PAGE_BYTES,
        cgroups,
    )


def uptime_s(proc: str = PROC) -> float:
    """Seconds since boot, the clock of `started_ticks`. Raises OSError."""
    with open(f"{proc}/uptime") as file:
        return float(file.read().split()[0])


def unit_of(process: Process, init: Process) -> str:
    """The systemd unit that a process of a container is in, by its cgroup; "" if none can be seen.

    The container's own cgroup is the one above the `init.scope` of its PID 1.
    """
    for hierarchy in ("name=systemd", ""):
        path, home = process.cgroups.get(hierarchy, ""), init.cgroups.get(hierarchy, "")
        if not home.endswith("/init.scope"):
            continue
        below = path.removeprefix(home.removesuffix("init.scope"))
        if below == path:
            continue
        parts = [part for part in below.split("/") if part.endswith((".service", ".scope"))]
        # user@1000.service has further units below it; the container's systemd knows only the first unit of the path.
        return parts[0] if parts else ""
    return ""


def roots(processes: Mapping[int, Process], init: int, known: Iterable[int]) -> dict[int, int]:
    """Each process but init -> its root: one of `known`, a child of init, or a process from outside.

    The last is the first process of an exec: its parent is not in the container.
    """
    stops = set(known)
    found: dict[int, int] = {}
    for pid in processes:
        at, path = pid, {pid}
        while at not in found and at not in stops and (parent := processes[at].parent) in processes and parent != init:
            if parent in path:  # the tree changed between two looks
                break
            path.add(parent)
            at = parent
        # All on the path have the same root: otherwise each process of a long chain would walk to its beginning.
        found.update(dict.fromkeys(path, found.get(at, at)))
    found.pop(init, None)
    return found


def listed(
    pids: Iterable[int], proc: str = PROC, command: Callable[[int, str], str] = command_of
) -> dict[int, Process]:
    """`look` at all `pids`; processes that are gone are left out."""
    found = {}
    for pid in pids:
        with suppress(ValueError, IndexError):
            if (one := look(pid, proc, command)) is not None:
                found[pid] = one
    return found
