"""The directories of ours that lead to those of containers: whoever knows the way may pass, and root alone may look.

The roots of user namespaces have to get through, as there the OCI runtime opens what it mounts in their name; who
lists such a directory would learn the names of all pods. os.makedirs gives its mode to the last directory alone.
"""

import errno
import os
from contextlib import suppress

MODE = 0o711

_WITHIN = (
    "Read-only file system: in a rich container that is the outer shim's directory; give the containerd inside one of"
    " its own in that place, with RuntimeDirectory= and BindPaths= of its unit (docs/engines.md)"
)


def make(path: str, *, mode: int = MODE) -> None:
    """Make the directory `path`, of `mode`, and those above that are missing, of MODE. Raises OSError.

    FileExistsError where `path` is there; EROFS, with a way out, for a shim inside a rich container.
    """
    try:
        _make(path, mode)
    except OSError as err:
        if err.errno == errno.EROFS:
            err.strerror = _WITHIN
        raise


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileNotFoundError:
        with suppress(FileExistsError):
            _make(os.path.dirname(path), MODE)
        os.mkdir(path, mode)


def mode_for(group: int) -> int:
    """The mode of a container's own directory: for the host's root and `group`, where that is a mapped root's."""
    return 0o710 if group else 0o700
