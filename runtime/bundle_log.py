"""What happened in one container, for `pouchrich logs`: boot, init's console, hooks and agents, as lines of JSON.

The log is in the bundle, so it is removed with the container. It may hold text from the container, so its size is
bounded: when the file is full it becomes the older half, replacing the previous older half.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from typing import Any, BinaryIO

FILE = "pouchrich.log"
HALF_BYTES = 32 << 10
SOURCES = ("boot", "console", "hook", "agent")


class BundleLog:
    """The log of the container with the bundle `bundle`. The file is opened for each write, as there are few."""

    def __init__(self, bundle: str) -> None:
        self._path = f"{bundle}/{FILE}"

    def write(self, source: str, name: str, texts: Sequence[str]) -> None:
        """Add a line for each text. `source` is one of SOURCES; `name` says which hook or agent.

        Never raises: a missing bundle or a full disk is no reason to fail a container.
        """
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, encoded(source, name, texts)[-HALF_BYTES:])
                full = os.fstat(fd).st_size > HALF_BYTES
            finally:
                os.close(fd)
            if full:
                os.rename(self._path, f"{self._path}.1")


def encoded(source: str, name: str, texts: Sequence[str]) -> bytes:
    """Lines of the log, written now; the arguments as for `BundleLog.write`."""
    now = round(time.time(), 3)
    lines = [json.dumps({"at": now, "source": source, "name": name, "text": text}) + "\n" for text in texts]
    return "".join(lines).encode()


def end(bundle: str, most: int) -> bytes:
    """At most the last `most` bytes of the log; its first line may be cut. Raises OSError."""
    found = b""
    for path in (f"{bundle}/{FILE}.1", f"{bundle}/{FILE}"):
        with suppress(FileNotFoundError), open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most))
            found += file.read(most)
    return found[-most:]


def read(bundle: str) -> Iterator[dict[str, Any]]:
    """The written lines, oldest first, as objects with `at` (a time.time()), `source`, `name` and `text`.

    A line that a killed writer left incomplete is skipped. Raises OSError where a file cannot be read.
    """
    with ExitStack() as stack:
        files: list[BinaryIO] = []
        # The newer half first: if it becomes the older one meanwhile, it is found twice, and not missed.
        for path in (f"{bundle}/{FILE}", f"{bundle}/{FILE}.1"):
            with suppress(FileNotFoundError):
                file = stack.enter_context(open(path, "rb"))
                if not files or not os.path.sameopenfile(file.fileno(), files[0].fileno()):
                    files.insert(0, file)
        yield from decoded(chain.from_iterable(files))


def decoded(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Those of `lines` that are whole, as objects; see `read`."""
    for line in lines:
        with suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and found.keys() >= {"at", "source", "name", "text"}:
                yield found
