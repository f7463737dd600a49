"""Telling whether a file is still the one that was looked at, without reading it again."""

import os


def of(path: str) -> tuple[int, ...]:
    """What changes when the file at `path` is changed or replaced; () where it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
