"""Compares a CRI log with a container's output line by line, even after containerd was killed while writing."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) ([FP]) ")
"""The prefix of each line in a CRI log (`TIME STREAM TAG TEXT`); tag P marks a partial line."""


@dataclass
class Seen:
    """`gaps` are the bytes missing before something present, `tail` those missing at the end.

    `alien` is the first line in a wrong place.
    """

    gaps: list[int] = field(default_factory=list)
    tail: int = 0
    alien: bytes | None = None

    @property
    def lost(self) -> int:
        return sum(self.gaps) + self.tail


def read(log: Path, expected: bytes) -> Seen:
    """Compare standard output in the log with `expected`, whose lines all differ."""
    return compare(_lines(log.read_bytes() if log.exists() else b""), expected)


def compare(lines: list[bytes], expected: bytes) -> Seen:
    """Compare `lines` with `expected`, which has the right order."""
    seen = Seen()
    offsets, at = {}, 0
    for line in expected.splitlines(keepends=True):
        offsets[line] = at
        at += len(line)
    at = 0
    for line in lines:
        offset = offsets.get(line, -1)
        if offset < at:
            seen.alien = line
            return seen
        if offset > at:
            seen.gaps.append(offset - at)
        at = offset + len(line)
    seen.tail = len(expected) - at
    return seen


def _lines(data: bytes) -> list[bytes]:
    """The lines of standard output, without lines that a killed containerd left unfinished: the next begins in them."""
    found, begun = [], b""
    for entry in data.splitlines(keepends=True):
        heads = list(_HEAD.finditer(entry))
        if not heads or not entry.endswith(b"\n"):
            begun = b""
            continue
        if len(heads) > 1:
            begun = b""
        head = heads[-1]
        text = entry[head.end() :]
        if head[1] == b"stderr":
            continue
        if head[2] == b"P":
            begun += text[:-1]
        else:
            found.append(begun + text)
            begun = b""
    return found
