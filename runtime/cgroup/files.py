"""Reads and writes cgroup files in their few formats.

A file that cannot be read or understood gives None or nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


def read(directory: str, name: str) -> bytes | None:
    """The whole content of a file; None if it is missing, removed while open (ENODEV) or disabled (EOPNOTSUPP)."""
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return b"".join(iter(lambda: os.read(fd, _CHUNK), b""))
    except OSError:
        return None
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    """Write `text` in one write(2), as the kernel expects a value. The file must exist. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def number(text: bytes | None, maximum: int) -> int | None:
    """The value of a counter or limit; the word `max` gives `maximum`. None for anything else."""
    word = (text or b"").strip()
    if word == b"max":
        return maximum
    return int(word) if word.isdigit() else None


def lines(text: bytes | None) -> Iterator[list[str]]:
    """The words of each line."""
    for line in (text or b"").decode(errors="replace").splitlines():
        words = line.split()
        if words:
            yield words


def flat(text: bytes | None) -> dict[str, int]:
    """The content of a flat keyed file: `KEY NUMBER` lines. Other lines are left out."""
    return {words[0]: int(words[1]) for words in lines(text) if len(words) == 2 and words[1].isdigit()}


def hugetlb_sizes(directory: str, suffix: str) -> list[str]:
    """The page sizes (`2MB`) for which a file `hugetlb.SIZE.SUFFIX` exists.

    Directories do not count: a container that may make cgroups below its own can give them such names.
    """
    try:
        with os.scandir(directory) as entries:
            names = [
                entry.name.split(".") for entry in entries if entry.name.startswith("hugetlb.") and entry.is_file()
            ]
    except OSError:
        return []
    return sorted(part[1] for part in names if len(part) == 3 and part[0] == "hugetlb" and part[2] == suffix)
