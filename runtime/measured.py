"""Counts and times that outlive a pod, for `pouchrich metrics`: one small file per series in /run/pouchrich/metrics.

A series is a name with labels. All of them are words of ours, never a pod's, so their number is bounded. Whoever adds
to a series holds the file's lock meanwhile and replaces the whole content with one write. A kill does not cut that
write short: a file is one page, and the kernel checks for signals between pages. So no server is needed, nothing has to
be repaired, and a reboot starts from zero.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from runtime import directories, paths

MOST_SERIES = 512
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the buckets for times, in seconds."""

_BYTES = 1024
_NAME = re.compile(r"[a-z0-9_]{1,40}(?:,[a-z_]{1,20}=[A-Za-z0-9-]{1,40}){0,5}", re.ASCII)


class Series(NamedTuple):
    """A count (`buckets` empty), or times by bucket, the last for all above `bounds`. `total`: the count or the sum."""

    name: str
    labels: tuple[tuple[str, str], ...]
    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    total: float


def add(
    name: str, labels: Mapping[str, str], value: float, *, bounds: tuple[float, ...] = (), root: str = paths.METRICS
) -> bool:
    """Add `value` to a series: to its count, or with `bounds` as one more time. False: the lock is taken, try again.

    A new series beyond MOST_SERIES is ignored. Raises ValueError for a bad name, OSError.
    """
    file = ",".join((name, *(f"{key}={labels[key]}" for key in sorted(labels))))
    if _NAME.fullmatch(file) is None:
        raise ValueError(f"series: found {file!r}, allowed words")
    fd = _open(f"{root}/{file}", root)
    if fd < 0:
        return True
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        buckets, total = _parsed(os.pread(fd, _BYTES, 0), bounds)
        if bounds:
            at = next((number for number, bound in enumerate(bounds) if value <= bound), len(bounds))
            buckets = [count + (number == at) for number, count in enumerate(buckets)]
        text = json.dumps({"bounds": bounds, "buckets": buckets, "total": round(total + value, 6)})
        os.pwrite(fd, text.ljust(_BYTES).encode(), 0)
        return True
    finally:
        os.close(fd)


def _open(path: str, root: str) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    with suppress(FileExistsError):
        directories.make(root, mode=0o700)
    return -1 if len(os.listdir(root)) >= MOST_SERIES else os.open(path, flags | os.O_CREAT, 0o600)


def _parsed(data: bytes, bounds: tuple[float, ...]) -> tuple[list[int], float]:
    """The content of a file; zeros where it holds something else, such as another version's buckets."""
    empty = [0] * (len(bounds) + 1 if bounds else 0)
    try:
        found = json.loads(data)
        if tuple(found["bounds"]) == bounds and len(found["buckets"]) == len(empty):
            return [int(count) for count in found["buckets"]], float(found["total"])
    except (ValueError, KeyError, TypeError):
        pass
    return empty, 0.0


def read(root: str = paths.METRICS) -> Iterator[Series]:
    """All series, sorted by name. Raises OSError, among them PermissionError for users other than root."""
    try:
        files = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    for file in files:
        if _NAME.fullmatch(file) is None:
            continue
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError), open(f"{root}/{file}", "rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_SH)
            found = json.loads(opened.read(_BYTES))
            name, *labels = file.split(",")
            pairs = tuple((key, value) for key, _, value in (label.partition("=") for label in labels))
            yield Series(name, pairs, tuple(found["bounds"]), tuple(found["buckets"]), float(found["total"]))
