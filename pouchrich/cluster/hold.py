"""What keeps a rollout from a node: a file on it, or its annotation. Nothing is changed while there is one."""

from pouchrich.cluster import block
from pouchrich.node import InstallError

FILE = "/etc/pouchrich/hold"
ANNOTATION = "pouchrich.io/hold"


def reason(annotations: dict[str, str] | None = None, path: str | None = None) -> str:
    """Why, and by what, "" where the rollout may go on. Raises InstallError, OSError."""
    if annotations and ANNOTATION in annotations:
        return f"annotation {ANNOTATION}: {annotations[ANNOTATION] or 'no reason given'}"
    path = FILE if path is None else path
    found = block.read(path)
    return "" if found is None else f"{path}: {found.strip() or 'no reason given'}"


def refuse() -> None:
    """Raises InstallError where the node's file is there."""
    if why := reason():
        raise InstallError(f"held by {why}: nothing was changed")
