"""A file system that can be made full: a private tmpfs for the files of containerd and the shims.

/run is not affected: on a node it is another file system, and containers do not write there.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration import isolation

MS_REMOUNT = 0x20
BYTES = 6 << 30
PLACE = Path("/run/pouchrich-tests")
"""Where nodes keep the upper layers of their /var/lib; their own directories are in Python's temporary directory."""


class Disk:
    """The file system, mounted in this process's mount namespace; nodes keep their files in it."""

    def __init__(self) -> None:
        self._path = Path(tempfile.mkdtemp(prefix="pouchrich-disk-"))
        self._options = "mode=0711"
        isolation.mount("tmpfs", self._path, "tmpfs", f"size={BYTES},{self._options}")
        for name in ("tests", "nodes"):
            (self._path / name).mkdir(mode=0o711)
        PLACE.symlink_to(self._path / "tests")
        tempfile.tempdir = str(self._path / "nodes")

    @contextmanager
    def full(self) -> Iterator[None]:
        """Within the `with`, nothing that needs space can be written."""
        self._resize(self._used())
        try:
            yield
        finally:
            self._resize(BYTES)

    def _used(self) -> int:
        found = os.statvfs(self._path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def _resize(self, size: int) -> None:
        for extra in (0, 1 << 16, 1 << 20, 1 << 23):  # the content may grow, and the tmpfs cannot be smaller than it
            try:
                isolation.mount("tmpfs", self._path, "tmpfs", f"size={size + extra}", flags=MS_REMOUNT)
                return
            except OSError:
                size = max(size, self._used())
        raise OSError(f"{self._path}: cannot be made full")

    def close(self) -> None:
        tempfile.tempdir = None
        PLACE.unlink()
        isolation.detach(self._path)
        self._path.rmdir()
