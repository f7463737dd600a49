"""What happened in one container, for `pouchrich logs`: boot, init's console, hooks and agents, as lines of JSON.

It is in the bundle, so it goes with the container and nothing need ever look for it. What is written there may be the
container's own words, so it is bounded: when the file is full it becomes the older half, and the one before is gone.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

FILE = "pouchrich.log"
HALF_BYTES = 32 << 10
SOURCES = ("boot", "console", "hook", "agent")


class BundleLog:
    """The log of the container whose bundle is at `bundle`; it is opened for each write, as there are few."""

    def __init__(self, bundle: str) -> None:
        self._path = f"{bundle}/{FILE}"

    def write(self, source: str, name: str, texts: Sequence[str]) -> None:
        """Add a line for each text, from `source`, one of SOURCES, where `name` says which hook or agent.

        Never raises: a bundle that is gone, or a full disk, is no reason to fail a container.
        """
        now = round(time.time(), 3)
        lines = [json.dumps({"at": now, "source": source, "name": name, "text": text}) + "\n" for text in texts]
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.write(fd, "".join(lines).encode()[-HALF_BYTES:])
                full = os.fstat(fd).st_size > HALF_BYTES
            finally:
                os.close(fd)
            if full:
                os.rename(self._path, f"{self._path}.1")


def read(bundle: str) -> Iterator[dict[str, Any]]:
    """The lines as `write` was given them, oldest first: `at`, a time.time(), `source`, `name` and `text`.

    What a killed writer left half is left out. Raises OSError where a file cannot be read.
    """
    for path in (f"{bundle}/{FILE}.1", f"{bundle}/{FILE}"):
        with suppress(FileNotFoundError), open(path, "rb") as file:
            for line in file:
                with suppress(ValueError):
                    found = json.loads(line)
                    if isinstance(found, dict) and found.keys() >= {"at", "source", "name", "text"}:
                        yield found
