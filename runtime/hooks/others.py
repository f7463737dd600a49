"""The processes of a container other than its init: what a prestart hook may have left behind.

Two ways to find them, joined. Its cgroup holds what it started, also in pid namespaces below the container's own; and
the pid namespace holds what moved to another cgroup. Where that namespace is shared with other containers or the host,
the cgroup alone counts.
"""

import os
import signal
from contextlib import ExitStack, suppress

from runtime import cgroup as cgroups
from runtime.cgroup import Cgroup

AT_ONCE = 256
"""Each takes a descriptor, of which a container can make processes enough to use up all."""


def others(init: int, cgroup: Cgroup | None, *, private_pids: bool, proc: str = "/proc") -> list[int]:
    """Host pids of the container's living processes without `init`, which must be alive and not ours to name again."""
    found = set(cgroups.procs(cgroup)) if cgroup is not None else set()
    if private_pids:
        found |= _in_pid_namespace(init, proc)
    return sorted(pid for pid in found - {init} if _lives(pid, proc))


def kill_others(init: int, cgroup: Cgroup | None, *, private_pids: bool) -> int:
    """SIGKILL AT_ONCE of them at the most, and return how many there were; until it says 0, there may be new ones.

    They are looked for again with their pidfds open, so that no later process of the same pid is hit.
    """
    first = others(init, cgroup, private_pids=private_pids)
    if not first:
        return 0
    with ExitStack() as stack:
        opened: dict[int, int] = {}
        for pid in first[:AT_ONCE]:
            try:
                opened[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            except OSError:  # there are no more to be had: those that are open go first
                break
            stack.callback(os.close, opened[pid])
        found = others(init, cgroup, private_pids=private_pids)
        for pid in found:
            if pid in opened:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(opened[pid], signal.SIGKILL)
        return len(found)


def _in_pid_namespace(init: int, proc: str) -> set[int]:
    own = _namespace(init, proc)
    if not own:
        return set()
    pids = {int(name) for name in os.listdir(proc) if name.isdigit()}
    return {pid for pid in pids if _namespace(pid, proc) == own}


def _namespace(pid: int, proc: str) -> str:
    try:
        return os.readlink(f"{proc}/{pid}/ns/pid")
    except OSError:
        return ""


def _lives(pid: int, proc: str) -> bool:
    try:
        with open(f"{proc}/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False
