"""A file on the node, or an annotation of the node, that holds a rollout: nothing is changed while there is one."""

from pouchrich.cluster import block
from pouchrich.node import InstallError

FILE = "/etc/pouchrich/hold"
ANNOTATION = "pouchrich.io/hold"


def reason(annotations: dict[str, str] | None = None, path: str | None = None) -> str:
    """Why the rollout is held, and by which of the two; "" if it may go on. Raises InstallError, OSError."""
    if annotations and ANNOTATION in annotations:
        return f"annotation {ANNOTATION}: {annotations[ANNOTATION] or 'no reason given'}"
    path = FILE if path is None else path
    found = block.read(path)
    return "" if found is None else f"{path}: {found.strip() or 'no reason given'}"


def refuse() -> None:
    """Raises InstallError if the node has the file."""
    if why := reason():
        raise InstallError(f"held by {why}: nothing was changed")
