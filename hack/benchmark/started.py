"""Splits the time of a StartContainer and of an ExecSync by the programs that run meanwhile. Times are seconds."""

from collections.abc import Iterable

from benchmark.tracing import Event


def parts(events: Iterable[Event], began: float, ended: float, *, start: str) -> dict[str, float]:
    """The parts of a StartContainer between `began` and `ended`, by row; empty if the events are incomplete.

    The programs that run and end meanwhile are the shim's `start` command, with the file name `start`, and the OCI
    runtime's `create` and `start`, under any name. A shim that answered version 3 runs no command for a further
    container.
    """
    forks, ends, runs = _lives(events, began, ended)
    ended_too = [pid for pid in runs if pid in ends and pid in forks]
    commands = [pid for pid in ended_too if runs[pid] == start]
    runtimes = [pid for pid in ended_too if runs[pid] != start]
    if len(runtimes) != 2 or len(commands) > 1:
        return {}
    create, then = runtimes
    before = ends[commands[0]] if commands else began
    told = {"containerd, and the shim's start command": before - began} if commands else {}
    return told | {
        "to the OCI runtime's create": forks[create] - before,
        "the OCI runtime's create": ends[create] - forks[create],
        "to its start": forks[then] - ends[create],
        "its start": ends[then] - forks[then],
        "to containerd's answer": ended - ends[then],
    }


def exec_parts(events: Iterable[Event], began: float, ended: float, *, command: str) -> dict[str, float]:
    """The same for an ExecSync of the program `command`, which ends before or after the OCI runtime."""
    forks, ends, runs = _lives(events, began, ended)
    commands = [pid for pid in runs if runs[pid] == command and pid in ends]
    runtimes = [pid for pid in runs if runs[pid] != command and pid in ends and pid in forks]
    if len(commands) != 1 or len(runtimes) != 1:
        return {}
    (runtime,), (one,) = runtimes, commands
    both = max(ends[runtime], ends[one])
    return {
        "to the OCI runtime's exec": forks[runtime] - began,
        "the OCI runtime's exec, and the command": both - forks[runtime],
        "to the answer of an exec": ended - both,
    }


def _lives(
    events: Iterable[Event], began: float, ended: float
) -> tuple[dict[int, float], dict[int, float], dict[int, str]]:
    """When each process was forked and ended, and the program it executed first, in the order of their executions."""
    forks, ends, runs = dict[int, float](), dict[int, float](), dict[int, str]()
    for event in events:
        if not began <= event.at <= ended:
            continue
        if event.kind == "fork":
            forks[event.child] = event.at
        elif event.kind == "exit":
            ends[event.pid] = event.at
        elif event.kind == "exec":
            runs.setdefault(event.pid, event.program)
    return forks, ends, runs
