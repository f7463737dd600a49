"""/proc/PID/mountinfo (proc_pid_mountinfo(5)): what is mounted where."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

# The kernel writes space, tab, newline and backslash of a path as three octal digits (seq_path).
_ESCAPE = re.compile(rb"\\([0-7]{3})")
CGROUPS = ("cgroup", "cgroup2")


@dataclass(frozen=True, slots=True)
class MountEntry:
    """`root` is the part of the file system that is mounted; `options` are the superblock's."""

    root: str
    mount_point: str
    fstype: str
    options: tuple[str, ...]


def _decode(field: bytes) -> str:
    if b"\\" in field:
        field = _ESCAPE.sub(lambda match: bytes((int(match[1], 8),)), field)
    return os.fsdecode(field)


def parse(lines: Iterable[bytes], fstypes: Collection[str] = ()) -> Iterator[MountEntry]:
    """The entries of a mountinfo file in its order, of these types only unless none is named."""
    wanted = {name.encode() for name in fstypes}
    for line in lines:
        left, _, right = line.rstrip(b"\n").partition(b" - ")
        behind = right.split(b" ")
        if wanted and behind[0] not in wanted:
            continue
        fields = left.split(b" ")
        if len(fields) >= 6 and len(behind) >= 3:
            yield MountEntry(
                root=_decode(fields[3]),
                mount_point=_decode(fields[4]),
                fstype=_decode(behind[0]),
                options=tuple(os.fsdecode(behind[2]).split(",")),
            )


def read(path: str = "/proc/self/mountinfo", *, fstypes: Collection[str] = ()) -> tuple[MountEntry, ...]:
    """The entries of `path`, of these types only unless none is named: a node has a dozen mounts per pod.

    Mounts that change during the reading may be missed: who must be sure reads again. Raises OSError.
    """
    with open(path, "rb") as file:
        return tuple(parse(file, fstypes))


def points(path: str = "/proc/self/mountinfo") -> set[str]:
    """Where anything is mounted. Raises OSError."""
    with open(path, "rb") as file:
        return {_decode(fields[4]) for line in file if len(fields := line.split(b" ", 5)) == 6}
