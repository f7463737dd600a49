"""The few shapes of cgroup files, read into Python.

A file that cannot be read or understood is None or empty.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


def read(directory: str, name: str) -> bytes | None:
    """The whole of a file; None if it is missing, gone while open (ENODEV) or switched off (EOPNOTSUPP)."""
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


def number(text: bytes | None, maximum: int) -> int | None:
    """A counter or limit; the word `max` is `maximum`."""
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
    """A flat keyed file: `KEY NUMBER` lines. Others are left out."""
    return {words[0]: int(words[1]) for words in lines(text) if len(words) == 2 and words[1].isdigit()}


def nested(text: bytes | None) -> Iterator[tuple[str, dict[str, str]]]:
    """A nested keyed file: `KEY NAME=VALUE...` lines."""
    for key, *pairs in lines(text):
        yield key, {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def rdma(text: bytes | None) -> list[dict[str, str | int]]:
    """rdma.current or rdma.max, the same on both hierarchies; the word `max` is 2^32-1."""
    names = {"hca_handles": "hca_handle", "hca_objects": "hca_object"}
    entries = []
    for device, values in nested(text):
        entry: dict[str, str | int] = {"device": device}
        for field, name in names.items():
            value = number(values.get(name, "").encode(), (1 << 32) - 1)
            if value is not None:
                entry[field] = value
        entries.append(entry)
    return entries


def hugetlb_sizes(directory: str, suffix: str) -> list[str]:
    """The page sizes (`2MB`) for which `hugetlb.SIZE.SUFFIX` exists."""
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    parts = (name.split(".") for name in names)
    return sorted(part[1] for part in parts if len(part) == 3 and part[0] == "hugetlb" and part[2] == suffix)
