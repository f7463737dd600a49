"""The present state of the node for `pouchrich metrics`: pod servers, spawners, owed hooks, containers."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pouchrich import containers, owed
from pouchrich.processes import PROC, name_of
from pouchrich.survey import Survey
from runtime import paths
from runtime.linux.seen import is_seen
from shim.spawner.request import DIRECTORY, LOCK_SUFFIX

_POD_SERVER = b"containerd-shim-pouchrich-v2\0-namespace\0"
_SPAWNER = b"pouchrich-spawner"


class Facts(NamedTuple):
    """`containers` by (mode, state), `owed` hooks by state; `pod_server_bytes`: proportional set of all pod servers."""

    containers: Counter[tuple[str, str]]
    problems: int
    owed_records: int
    owed: Counter[str]
    pod_servers: int
    pod_server_bytes: int
    spawners: int
    spawners_killed: int


def collect(
    *,
    root: str = paths.BUNDLES,
    records: str = paths.RECORDS,
    spawners: str = DIRECTORY,
    proc: str = PROC,
) -> Facts:
    """Collect the facts. Raises OSError."""
    left_out: list[str] = []
    survey = Survey(proc=proc, command=name_of)
    seen = survey.look(containers.every(root=root, left_out=left_out.append), whole=False)
    found = list(owed.read(records))
    servers = list(_processes(_POD_SERVER, proc))
    alive = sum(1 for _ in _processes(_SPAWNER, proc))
    return Facts(
        Counter((one.container.mode, one.state) for one in seen),
        len(left_out) + sum(1 for one in seen for _ in one.problems),
        len(found),
        Counter(hook.state for one in found for hook in one.hooks),
        len(servers),
        sum(_proportional_bytes(f"{proc}/{pid}") for pid in servers),
        alive,
        _killed(spawners, proc),
    )


def _processes(begins: bytes, proc: str) -> Iterator[int]:
    """The processes whose command line begins with `begins`, except containers' processes.

    These can fake it, and keep it from being read by forking (fs/proc/base.c, get_mm_cmdline): it is not looked at.
    """
    for name in os.listdir(proc):
        if name.isdecimal() and is_seen(name, "/", proc=proc):
            try:
                with open(f"{proc}/{name}/cmdline", "rb") as file:
                    if file.read(len(begins)) == begins:
                        yield int(name)
            except OSError:
                continue


def _proportional_bytes(directory: str) -> int:
    """The process's proportional set size (proc_pid_smaps_rollup(5)), 0 if it is gone."""
    try:
        with open(f"{directory}/smaps_rollup", encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
    except OSError:
        return 0


def _killed(directory: str, proc: str) -> int:
    """How many lock files belong to spawners that have died without removing them."""
    count = 0
    try:
        names = os.listdir(directory)
    except OSError:
        return 0
    for name in names:
        if name.startswith("spawner-") and name.endswith(LOCK_SUFFIX):
            try:
                with open(f"{directory}/{name}") as file:
                    pid = int(file.read(32).partition(" ")[0] or 0)
            except (OSError, ValueError):
                continue
            count += bool(pid) and not os.path.exists(f"{proc}/{pid}")
    return count
