"""A client's signals to the application under dumb-init, where the kernel does not let dumb-init forward them.

dumb-init has the user and the capabilities that the pod gives the container. An application that has changed its user
(setpriv, gosu, a set-user-ID program) may then be signalled with CAP_KILL only (kill(2)), which many pods drop. In a
plain container the shim, root on the host, signals the application itself, and so it does here.
"""

import os
import signal

_CAP_KILL = 1 << 5


def deliver(init: int, number: int, *, proc: str = "/proc") -> bool:
    """Send signal `number` to the application if dumb-init, host process `init`, may not. Return whether it was sent.

    The application is dumb-init's first child. False where it cannot be told (CONFIG_PROC_CHILDREN), or has ended.
    """
    try:
        with open(f"{proc}/{init}/task/{init}/children") as file:
            application = int(file.read().split()[0])  # oldest first (fs/proc/array.c)
        fd = os.pidfd_open(application)
    except (OSError, IndexError):
        return False
    try:
        its = _status(application, proc)
        if its["PPid"] != str(init) or _may_signal(_status(init, proc), its):
            return False
        signal.pidfd_send_signal(fd, number)
    except (OSError, KeyError, ValueError):
        return False
    finally:
        os.close(fd)
    return True


def _may_signal(sender: dict[str, str], receiver: dict[str, str]) -> bool:
    """Whether one process may signal another of its user namespace (kernel/signal.c, kill_ok_by_cred)."""
    real, effective, *_ = sender["Uid"].split()
    its_real, _, its_saved, *_ = receiver["Uid"].split()
    return bool({real, effective} & {its_real, its_saved}) or bool(int(sender["CapEff"], 16) & _CAP_KILL)


def _status(pid: int, proc: str) -> dict[str, str]:
    """The lines of proc_pid_status(5)."""
    with open(f"{proc}/{pid}/status", errors="replace") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
