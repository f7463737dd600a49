"""/proc/PID/mountinfo (proc_pid_mountinfo(5)): what is mounted where."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The kernel writes space, tab, newline and backslash of a path as three octal digits (seq_path).
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class MountEntry:
    """`root` is the part of the file system that is mounted; `options` are the superblock's."""

    root: str
    mount_point: str
    fstype: str
    options: tuple[str, ...]


def _decode(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes((int(match[1], 8),)), field))


def parse(text: bytes) -> Iterator[MountEntry]:
    """The entries of a mountinfo file, in its order."""
    for line in text.splitlines():
        left, _, right = line.partition(b" - ")
        fields, behind = left.split(b" "), right.split(b" ")
        if len(fields) >= 6 and len(behind) >= 3:
            yield MountEntry(
                root=_decode(fields[3]),
                mount_point=_decode(fields[4]),
                fstype=_decode(behind[0]),
                options=tuple(os.fsdecode(behind[2]).split(",")),
            )


def read(path: str = "/proc/self/mountinfo") -> tuple[MountEntry, ...]:
    """The entries of `path`.

    Mounts that change during the reading may be missed: who must be sure reads again.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b"".join(iter(lambda: os.read(fd, _CHUNK), b""))
    finally:
        os.close(fd)
    return tuple(parse(text))
