"""Our directories above those of containers: everybody may pass through them, and only root may list them.

The roots of user namespaces have to pass, because the OCI runtime opens what it mounts as these users. Whoever could
list such a directory would learn the names of all pods. os.makedirs applies its mode only to the last directory.
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
    """Make the directory `path` with `mode`, and missing ones above it with MODE. Raises OSError.

    FileExistsError if `path` exists; EROFS, with advice in its text, for a shim inside a rich container.
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
    """The mode of a container's own directory: open to the host's root, and to `group` if that is a mapped root's."""
    return 0o710 if group else 0o700
