"""The parts of a metrics message that a cgroup's files give: read each time, encoded anew when changed."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from runtime.cgroup.files import hugetlb_sizes
from runtime.cgroup.kept import KeptFile
from shim.task.stats import encode
from shim.task.stats.encode import Encode, MessageType


class Part(Protocol):
    """Some bytes of the encoded message."""

    def chunk(self) -> bytes:
        """The encoded part, as the files are now. Raises OSError where none of the files exists."""

    def close(self) -> None:
        """Close the descriptors, until `chunk` is called again."""


class FilePart:
    """A part that comes from one file."""

    __slots__ = ("_chunk", "_encode", "_file", "_text")

    def __init__(self, path: str, encode: Encode) -> None:
        self._file = KeptFile(path)
        self._encode = encode
        self._text = self._chunk = b""

    def chunk(self) -> bytes:
        text = self._file.read()
        if text != self._text:
            self._chunk = self._encode(text)
            self._text = text
        return self._chunk

    def close(self) -> None:
        self._file.close()


class FirstPart:
    """A part that comes from the first of several files that has anything to encode."""

    __slots__ = ("_parts",)

    def __init__(self, paths: Sequence[str], encode: Encode) -> None:
        self._parts = [FilePart(path, encode) for path in paths]

    def chunk(self) -> bytes:
        for part in tuple(self._parts):
            try:
                if chunk := part.chunk():
                    return chunk
            except OSError:
                part.close()
                self._parts.remove(part)
        if not self._parts:
            raise FileNotFoundError(errno.ENOENT, "none of the files is there")
        return b""

    def close(self) -> None:
        for part in self._parts:
            part.close()


class EntryPart:
    """One entry of the repeated field `message`, which cannot be split: `head`, and the parts of several files.

    The entry exists while the first of the files does.
    """

    __slots__ = ("_first", "_head", "_message", "_others")

    def __init__(self, message: MessageType, head: bytes, parts: Sequence[FilePart]) -> None:
        self._message = message
        self._head = head
        self._first, *self._others = parts

    def chunk(self) -> bytes:
        found = [self._head, self._first.chunk()]
        for part in self._others:
            with suppress(OSError):
                found.append(part.chunk())
        return self._message.wrap(b"".join(found))

    def close(self) -> None:
        for part in (self._first, *self._others):
            part.close()


def hugetlb_parts(directory: str, files: Mapping[str, Encode], message: MessageType) -> Iterator[Part]:
    """An entry of `message` for each page size. `files` is keyed by the last part of the names, `hugetlb.2MB.END`."""
    for size in hugetlb_sizes(directory, next(iter(files))):
        found = [FilePart(f"{directory}/hugetlb.{size}.{end}", how) for end, how in files.items()]
        yield EntryPart(message, encode.text(message, "pagesize", size.encode()), found)
