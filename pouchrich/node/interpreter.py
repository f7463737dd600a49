"""The program interpreter (loader) that an executable asks the kernel for: PT_INTERP of elf(5).

Its path must be absolute, so an executable with a loader of its own is made for one directory. A released one has room
for any path: the kernel takes the text up to its first zero byte, and only looks whether the last byte is one
(load_elf_binary() in fs/binfmt_elf.c).
"""

import os
import struct

ROOM = 240
"""Bytes for the path in a released executable."""

_MAGIC = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16xHHIQQQIHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_PT_INTERP = 3


def read(path: str) -> str:
    """The loader of the executable at `path`, "" for a static one. Raises ValueError for another file; OSError."""
    with open(path, "rb") as file:
        at, size = _find(file.read(1 << 16))
        file.seek(at)
        return file.read(size).partition(b"\0")[0].decode()


def write(path: str, loader: str) -> None:
    """Have the executable at `path` ask for `loader`. Raises ValueError where that is too long, or no room; OSError."""
    text = os.fsencode(loader)
    with open(path, "r+b") as file:
        at, size = _find(file.read(1 << 16))
        if len(text) >= size:
            raise ValueError(f"{loader}: found {len(text)} bytes, allowed {size - 1}")
        file.seek(at)
        file.write(text.ljust(size, b"\0"))


def _find(head: bytes) -> tuple[int, int]:
    if not head.startswith(_MAGIC):
        raise ValueError("not a 64-bit little-endian ELF file")
    _, _, _, _, first, _, _, _, size, count = _HEADER.unpack_from(head)
    for number in range(count):
        kind, _, at, _, _, length, _, _ = _SEGMENT.unpack_from(head, first + number * size)
        if kind == _PT_INTERP:
            return at, length
    return 0, 0
