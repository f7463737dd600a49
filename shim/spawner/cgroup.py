"""Moves this process into another cgroup."""

import os

ROOT = "/sys/fs/cgroup"


def join(path: str, *, root: str = ROOT) -> None:
    """Move this process into the cgroup `path`, in the unified tree or in each v1 hierarchy. It must exist.

    Raises OSError.
    """
    below = os.path.normpath("/" + path)
    if os.path.exists(f"{root}/cgroup.controllers"):
        hierarchies = [root]
    else:
        hierarchies = [entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    joined = False
    for hierarchy in hierarchies:
        if os.path.isdir(hierarchy + below):
            enter(hierarchy + below)
            joined = True
    if not joined:
        raise FileNotFoundError(f"shim_cgroup: found {path!r}, which is no cgroup below {root}")


def enter(directory: str) -> None:
    """Move this process into the cgroup at `directory`. Raises OSError."""
    with open(f"{directory}/cgroup.procs", "w") as file:
        file.write("0")
