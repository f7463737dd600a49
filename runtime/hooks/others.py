"""The processes of a container other than its init: what a prestart hook may have left behind.

They are found in two ways. The container's cgroup has what was started there, also in PID namespaces below the
container's own; the PID namespace, which a rich container shares with nobody, has what moved to another cgroup.
"""

import os
import signal
from contextlib import ExitStack, suppress

from runtime import cgroup as cgroups
from runtime.cgroup import Cgroup

AT_ONCE = 256
"""The most processes killed at once: each takes a descriptor, and a container can have more than there are."""


def others(init: int, cgroup: Cgroup | None, *, proc: str = "/proc") -> list[int]:
    """Host PIDs of the container's living processes except `init`, which must be alive so that its PID is its own."""
    found = set(cgroups.procs(cgroup)) if cgroup is not None else set()
    found |= _in_pid_namespace(init, proc)
    return sorted(pid for pid in found - {init} if _lives(pid, proc))


def kill_others(init: int, cgroup: Cgroup | None) -> int:
    """SIGKILL at most AT_ONCE of `others` and return how many there were. Repeat until 0: there may be new ones.

    The processes are listed again once their pidfds are open, so that no later process with the same PID is killed.
    """
    first = others(init, cgroup)
    if not first:
        return 0
    with ExitStack() as stack:
        opened: dict[int, int] = {}
        for pid in first[:AT_ONCE]:
            try:
                opened[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            except OSError:  # no descriptor is left: kill those that are open first
                break
            stack.callback(os.close, opened[pid])
        found = others(init, cgroup)
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
