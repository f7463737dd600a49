"""The program interpreter (loader) that an executable names: PT_INTERP of elf(5).

The path must be absolute, so an executable with its own loader works in one directory only. Released executables have
room for any path: the kernel reads the text up to the first zero byte, and only checks that the last byte is zero
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
    """The loader of the executable `path`, "" for a static one. Raises ValueError for another kind of file; OSError."""
    with open(path, "rb") as file:
        at, size = _find(file.read(1 << 16))
        file.seek(at)
        return file.read(size).partition(b"\0")[0].decode()


def write(path: str, loader: str) -> None:
    """Set the loader of the executable `path`. Raises ValueError if `loader` is too long or has no room; OSError."""
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
