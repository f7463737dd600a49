"""Detects whether a file has changed since it was examined, without reading it again."""

import os


def of_file(path: str) -> tuple[int, ...]:
    """A value that changes when the file at `path` is changed or replaced; () where stat fails."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
