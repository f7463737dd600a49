"""Dispatches what containerd asks of a shim binary."""

import os
import sys

from shim import __version__
from shim.contract import flags

PROGRAM = "containerd-shim-pouchrich-v2"


def main() -> None:
    """Execute the command line and exit: 0 done, 1 failed with the reason on standard error, 2 bad usage."""
    try:
        given = flags.parse(sys.argv[1:])
    except flags.UsageError as err:
        sys.stderr.write(f"{err}\n{flags.usage(PROGRAM)}")
        sys.exit(2)
    try:
        _dispatch(given)
    except Exception as err:  # every failure becomes one line, which containerd shows to the pod's owner
        sys.stderr.write(f"{PROGRAM}: {err or type(err).__name__}\n")
        sys.exit(1)


def _dispatch(given: flags.Flags) -> None:
    if given.version:
        sys.stdout.write(f"{PROGRAM}:\n  Version:  {__version__}\n  Python:   {sys.version.split()[0]}\n")
    elif given.info:
        from shim.manager import start
        from shim.spawner import info

        start.begin_spawner_for_containerd()
        _write(info.answer(_read_stdin()))
    elif not given.namespace:
        raise ValueError("shim namespace cannot be empty")
    elif given.action == "start":
        from shim.manager import start

        start.main()
    elif given.action == "delete":
        from shim.manager import delete

        _write(delete.delete(given))
    elif given.action == "":
        from shim.pod import daemon

        daemon.serve_in_foreground(given)
    else:
        raise ValueError(f'unknown action "{given.action}", allowed: start, delete')


def _read_stdin() -> bytes:
    chunks = []
    while chunk := os.read(0, 65536):
        chunks.append(chunk)
    return b"".join(chunks)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
