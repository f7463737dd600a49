"""Opens a process's streams in the form that the client asks for (containerd, pkg/process/io.go, createIO)."""

import os
from functools import partial

from runtime.errors import InvalidArgument
from shim.task.reaper import Reaper
from shim.task.stdio import fifo, logger
from shim.task.stdio.console import ConsoleSocket
from shim.task.stdio.endpoints import OpenOutput, close_all
from shim.task.stdio.stdio import Owner, PipeIO, Stdio, StdioPaths, to_client, to_file
from shim.task.stdio.terminal import ConsoleSource, TerminalIO

SCHEMES = ("fifo", "file", "binary", "binary-v2")


async def open_stdio(
    paths: StdioPaths,
    owner: Owner,
    *,
    bundle: str,
    container_id: str,
    namespace: str,
    reaper: Reaper,
    console: ConsoleSource | None = None,
    direct: bool = False,
) -> Stdio:
    """Make what is needed before the process; for a logging driver that is its running program.

    `container_id` is what the driver is told: the container's id, or for an exec the exec's. A terminal comes from
    `console`, by default from the OCI runtime through a socket in the directory `bundle`. With `direct`, outputs go to
    the client's FIFOs without a copy if the FIFOs already have readers. Raises InvalidArgument for an unsupported
    scheme, RuntimeFailed for a driver that does not start, OSError.
    """
    scheme, stdin = paths.scheme, _plain(paths.stdin)
    if stdin == os.devnull:
        stdin = ""  # as a process without one has it
    elif fifo.is_another_file(stdin):
        raise InvalidArgument(f"stdin: found {stdin!a}, which is no FIFO, allowed a FIFO or {os.devnull}")
    if scheme not in SCHEMES:
        raise InvalidArgument(f"stdout: unknown STDIO scheme {scheme}, allowed: {', '.join(SCHEMES)}")
    if scheme.startswith("binary"):
        program = await logger.start(paths.stdout, container_id=container_id, namespace=namespace, reaper=reaper)
        if not paths.terminal:
            return logger.LoggerIO(program)
        duplicate = partial(_duplicate, program)
        return TerminalIO(stdin, duplicate, console or ConsoleSocket(bundle), program.close)
    if paths.terminal:
        return TerminalIO(stdin, _opener(paths.stdout), console or ConsoleSocket(bundle))
    # A file takes both streams, whatever stderr says.
    wanted = {1: paths.stdout, 2: paths.stdout if scheme == "file" else paths.stderr}
    ends = _direct(wanted) if direct and scheme == "fifo" else {}
    outputs = {fd: opener for fd, path in wanted.items() if fd not in ends and (opener := _opener(path)) is not None}
    return PipeIO(stdin, outputs, owner, direct=ends)


def _direct(wanted: dict[int, str]) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    try:
        for fd, path in wanted.items():
            if path and (ends := fifo.open_if_read(_plain(path))) is not None:
                found[fd] = ends
    except BaseException:
        for ends in found.values():
            close_all(list(ends))
        raise
    return found


def _plain(path: str) -> str:
    return path.removeprefix("fifo://")


def _opener(path: str) -> OpenOutput | None:
    if not path:
        return None
    return to_file(path) if path.startswith("file:") else to_client(_plain(path))


async def _duplicate(program: logger.Logger) -> list[int]:
    duplicate = program.duplicate_stdout()
    os.set_blocking(duplicate, False)  # for all duplicates of it, which only this process has
    return [duplicate]
