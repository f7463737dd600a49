"""What a CRI log has of a container's output, line by line, also after containerd was killed while it wrote."""

import re
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) ([FP]) ")
"""What a CRI log has before each line (`TIME STREAM TAG TEXT`), where tag P marks one that goes on."""


@dataclass
class Seen:
    """`gaps` are bytes missing before something that is there, `tail` those missing at the end.

    `alien` is the first line that does not belong where it is.
    """

    gaps: list[int] = field(default_factory=list)
    tail: int = 0
    alien: bytes | None = None

    @property
    def lost(self) -> int:
        return sum(self.gaps) + self.tail


def read(log: Path, expected: bytes) -> Seen:
    """Compare standard output as the log has it with what is `expected`, whose lines all differ."""
    return compare(_lines(log.read_bytes() if log.exists() else b""), expected)


def compare(lines: list[bytes], expected: bytes) -> Seen:
    """Compare lines, in the order in which they are to come, with what is `expected`."""
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
    """Lines of standard output. One that a killed containerd has not finished is none; the next begins in it."""
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
