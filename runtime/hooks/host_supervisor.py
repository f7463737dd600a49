"""The parent process of a hook on the host. Run as a script, by path, with nothing but the standard library.

It is a child subreaper, so everything that the hook starts, however it detaches itself (double fork, setsid), stays
among this process's descendants, on any cgroup layout and without a cgroup of its own. On a time-out, or SIGTERM, all
descendants are killed. This process measures the time-out itself, so a hook whose shim is killed still ends in time.
What a hook that ended left behind on purpose continues, as a child of whoever started this process; nobody waits for
it.

Descriptor 3: JSON {"command": [...], "env": {...}, "timeout_s": n}. Descriptor 4: the line BEGUN before the hook is
started, then the answer, `exit STATUS` (128+n for signal n), `error REASON` where the command could not be executed,
`unstarted REASON` where the node lacked the resources to start it, `timeout LEFT` or `stopped LEFT` with the number of
processes that would not die. 0, 1 and 2 are the hook's.
"""

import ctypes
import errno
import json
import os
import select
import signal
import time

ORDERS, ANSWER = 3, 4
KILL_FOR_S = 5.0
BEGUN = "begun\n"
UNSTARTED = "unstarted"
SHORTAGES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Errors that mean a lack of processes, memory or descriptors. What they prevented can be tried again."""

_PR_SET_CHILD_SUBREAPER = 36


class _Stopped(BaseException):
    """SIGTERM was received."""


def main() -> None:
    """Run the hook to its end."""
    signal.signal(signal.SIGTERM, _stop)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    for fd in (ORDERS, ANSWER):
        os.set_inheritable(fd, False)
    with open(ORDERS, "rb") as file:
        orders = json.load(file)
    os.write(ANSWER, BEGUN.encode())
    os.write(ANSWER, _keep(orders).encode())


def _keep(orders: dict) -> str:  # type: ignore[type-arg]  # JSON
    try:
        started = _start(orders["command"], orders["env"])
        if isinstance(started, str):
            return started
        if _ended_within(started, orders["timeout_s"]):
            code = os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])
            return f"exit {code if code >= 0 else 128 - code}"
        answer = "timeout"
    except _Stopped:
        answer = "stopped"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return f"{answer} {kill_descendants(KILL_FOR_S)}"


def _start(command: "list[str]", env: "dict[str, str]") -> "int | str":
    """The hook's PID, or the answer that says why there is none."""
    try:
        reader, writer = os.pipe()
        pid = os.fork()
    except OSError as err:
        return _failed(err)
    if pid == 0:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            _reset_negative_oom_score()
            os.execve(command[0], command, env)
        except OSError as err:
            os.write(writer, _failed(err).encode())
        finally:
            os._exit(127)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read().decode()
    if not answer:
        return pid
    os.waitpid(pid, 0)
    return answer


def _failed(err: OSError) -> str:
    word = UNSTARTED if err.errno in SHORTAGES else "error"
    return f"{word} {err.strerror or errno.errorcode.get(err.errno or 0, '')}".lower()


def _reset_negative_oom_score() -> None:
    """Reset a negative OOM score: the OOM killer spares containerd and its shims, but not what they run for others."""
    with open("/proc/self/oom_score_adj", "r+") as file:
        if int(file.read()) < 0:
            file.write("0")


def _ended_within(pid: int, timeout_s: float) -> bool:
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_s) * 1000))
    finally:
        os.close(fd)


def _stop(*_: object) -> None:
    raise _Stopped


def kill_descendants(patience_s: float) -> int:
    """SIGKILL every descendant until none is left; the number still alive after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        _reap()
        living = descendants(os.getpid(), processes())
        if not living or time.monotonic() > deadline:
            return len(living)
        for pid, began in living.items():
            kill(pid, began)
        time.sleep(0.005)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def processes() -> "dict[int, tuple[int, str, str]]":
    """PID -> (parent, state, start time) of every process. proc_pid_stat(5)."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (words := _stat(int(name))):
            found[int(name)] = (int(words[1]), words[0], words[19])
    return found


def _stat(pid: int) -> "list[str]":
    """The fields from the state on; the name before them may contain anything."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def descendants(top: int, table: "dict[int, tuple[int, str, str]]") -> "dict[int, str]":
    """The living processes below `top` in `table`, PID -> start time. A zombie's children are no longer below `top`."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, str] = {}
    todo = [top]
    while todo:
        for pid in children.get(todo.pop(), ()):
            _, state, began = table[pid]
            if pid not in found and state not in "ZX":
                found[pid] = began
                todo.append(pid)
    return found


def kill(pid: int, began: str) -> None:
    """SIGKILL process `pid` if it still has the start time `began` (from `descendants`). Raises nothing."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        words = _stat(pid)
        if words and words[19] == began:  # the pidfd is that of the process that was listed, not of a later one
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(fd)


if __name__ == "__main__":
    main()
