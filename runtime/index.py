"""Where the node's rich containers are, for `pouchrich ps`: one symbolic link each, to its bundle.

Bundles are wherever containerd keeps its state, which only containerd need know. The links are below /run and gone
after a reboot. A link to a missing bundle was left by a killed pod server and means nothing.
"""

import os
from collections.abc import Iterator
from contextlib import suppress

from runtime import directories, paths


def register(namespace: str, container_id: str, bundle: str, *, root: str = paths.BUNDLES) -> None:
    """Add a container, replacing an earlier one of the same name. Raises OSError."""
    directory = f"{root}/{namespace}"
    with suppress(FileExistsError):
        directories.make(directory, mode=0o700)
    unregister(namespace, container_id, root=root)
    os.symlink(bundle, f"{directory}/{container_id}")


def unregister(namespace: str, container_id: str, *, root: str = paths.BUNDLES) -> None:
    """Remove a container. May be repeated. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(f"{root}/{namespace}/{container_id}")


def entries(*, root: str = paths.BUNDLES) -> Iterator[tuple[str, str, str]]:
    """(containerd namespace, container ID, bundle) of every container whose bundle exists. Raises OSError.

    Names that begin with a dot belong to the spawner and are no containers of containerd's.
    """
    for namespace in _names(root):
        if namespace.startswith("."):
            continue
        for container_id in _names(f"{root}/{namespace}"):
            with suppress(FileNotFoundError):
                bundle = os.readlink(f"{root}/{namespace}/{container_id}")
                if os.path.isdir(bundle):
                    yield namespace, container_id, bundle


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
