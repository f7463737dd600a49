"""The pod servers that run from an installation, whichever of its versions it is."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from pouchrich.node.layout import PROGRAMS
from pouchrich.output import clean
from runtime.linux import command_line
from runtime.linux.seen import is_seen
from shim.installed.version import IN_USE


class PodServer(NamedTuple):
    """`command` is its command line as far as it names the pod; `version` is the name of the version's directory.

    `version` is "" for a server that has no lock on it: its installation was of a time before the locks.
    """

    pid: int
    command: str
    version: str


def pod_servers(home: str) -> Iterator[PodServer]:
    """The pod servers of the installation whose versions are in `home`, by process ID. Raises OSError.

    A pod server of any version has the version's lock open and its libraries mapped.
    """
    real = os.path.realpath(home)  # as the kernel names mapped and open files
    for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        with suppress(OSError):  # the process has ended, or is another user's
            if not is_seen(pid, home):
                continue
            words = command_line.read(pid).replace(b"\0", b" ").decode(errors="replace")
            if not words.startswith(f"{PROGRAMS[0]} "):
                continue
            version = _held(pid, real)
            if version or _maps(pid, real):
                yield PodServer(int(pid), clean(words.partition(" -address")[0].rstrip()), version)


def _maps(pid: str, home: str) -> bool:
    with open(f"/proc/{pid}/maps", "rb") as file:
        return os.fsencode(f" {home}/") in file.read()


def _held(pid: str, home: str) -> str:
    """The name of the version whose lock the process has open, "" for none."""
    pattern = re.compile(re.escape(home) + f"/([^/]+)/{IN_USE}")
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            if found := pattern.fullmatch(os.readlink(f"/proc/{pid}/fd/{fd}")):
                return found[1]
    return ""
