"""Reads /proc/PID/mountinfo (proc_pid_mountinfo(5)): what is mounted where."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

# The kernel writes a space, tab, newline or backslash in a path as three octal digits (seq_path).
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_ESCAPED = re.compile(rb"[ \t\n\\]")
CGROUPS = ("cgroup", "cgroup2")
_BUFFER = 1 << 16
"""The size in bytes of a read(2). The kernel returns a page at a time; Python's default buffer is a quarter of this."""


class MountEntry(NamedTuple):
    """A mount. `root` is the part of the file system that is mounted; `options` are the superblock's."""

    root: str
    mount_point: str
    fstype: str
    options: tuple[str, ...]


def _encode(path: str) -> bytes:
    return _ESCAPED.sub(lambda match: b"\\%03o" % match[0][0], os.fsencode(path))


def _decode(field: bytes) -> str:
    if b"\\" in field:
        field = _ESCAPE.sub(lambda match: bytes((int(match[1], 8),)), field)
    return os.fsdecode(field)


def parse(lines: Iterable[bytes], fstypes: Collection[str] = ()) -> Iterator[MountEntry]:
    """The entries of a mountinfo file in its order, only those of the types `fstypes` if any are named."""
    wanted = {name.encode() for name in fstypes}
    marks = [b" - %b " % name for name in wanted]
    for line in lines:
        if marks and not any(mark in line for mark in marks):
            continue  # a cheap test that drops nearly all lines of a node
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
    """The entries of `path`, only those of the types `fstypes` if any are named: a node has a dozen mounts per pod.

    Mounts that change during the reading may be missed; read again where that matters. Raises OSError.
    """
    with open(path, "rb", buffering=_BUFFER) as file:
        return tuple(parse(file, fstypes))


def around(place: str, path: str = "/proc/self/mountinfo") -> tuple[MountEntry, ...]:
    """The entries of the mounts at `place`, below it, and on the way to it from the root. Raises OSError."""
    above = {_encode(one) for one in _upwards(place)}
    below = _encode(place.rstrip("/")) + b"/"
    with open(path, "rb", buffering=_BUFFER) as file:
        return tuple(parse(line for line in file if (point := _point(line)) in above or point.startswith(below)))


def points_in(directory: str, path: str = "/proc/self/mountinfo") -> set[str]:
    """The mount points at `directory` or below. Raises OSError."""
    here = _encode(directory)
    below = here.rstrip(b"/") + b"/"
    with open(path, "rb", buffering=_BUFFER) as file:
        found = {
            point for line in file if here in line and ((point := _point(line)) == here or point.startswith(below))
        }
    return {_decode(point) for point in found}


def device_of(place: str, path: str = "/proc/self/mountinfo") -> tuple[int, int] | None:
    """The device (major, minor) of the file system that has `place`, None if `place` or its mount cannot be found.

    It is the superblock's, which is also in /proc/locks; stat(2) shows another device in a btrfs subvolume. Raises
    OSError if `path` cannot be read.
    """
    mount = _mount_id(place)
    with open(path, "rb", buffering=_BUFFER) as file:
        for line in file if mount else ():
            if line.startswith(mount + b" "):
                major, _, minor = line.split(b" ", 3)[2].partition(b":")
                return int(major), int(minor)
    return None


def _mount_id(place: str) -> bytes:
    """The ID of the mount that has `place` (proc_pid_fdinfo(5)), b"" if it cannot be found."""
    try:
        fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            return next((line.split()[1] for line in file if line.startswith(b"mnt_id:")), b"")
    finally:
        os.close(fd)


def _point(line: bytes) -> bytes:
    """The mount point in the kernel's spelling, b"" where the line has none."""
    fields = line.split(b" ", 5)
    return fields[4] if len(fields) == 6 else b""


def _upwards(place: str) -> Iterator[str]:
    yield place
    while place != "/":
        place = os.path.dirname(place)
        yield place
