"""The directories of ours that lead to those of containers: whoever knows the way may pass, and root alone may look.

The roots of user namespaces have to get through, as there the OCI runtime opens what it mounts in their name; who
lists such a directory would learn the names of all pods. os.makedirs gives its mode to the last directory alone.
"""

import os
from contextlib import suppress

MODE = 0o711


def make(path: str, *, mode: int = MODE) -> None:
    """Make the directory `path`, of `mode`, and those above that are missing, of MODE. Raises OSError.

    FileExistsError where `path` is there.
    """
    try:
        os.mkdir(path, mode)
    except FileNotFoundError:
        with suppress(FileExistsError):
            make(os.path.dirname(path))
        os.mkdir(path, mode)


def mode_for(group: int) -> int:
    """The mode of a container's own directory: for the host's root and `group`, where that is a mapped root's."""
    return 0o710 if group else 0o700
