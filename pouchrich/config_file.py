"""The configuration that a command works on: the node's own, or that of a file which the command line names."""

import os

from runtime.config import Config, load, load_node
from runtime.config.file import NotRootsAlone

ANY_OWNER = "accept a FILE that root does not own or others can write"


def given(file: str | None, *, any_owner: bool) -> Config:
    """The configuration in `file`, a path as in a shell, or the node's if that is None.

    `any_owner` accepts a file that others than root can change; this does not look at the programs of its host hooks
    then. Raises NotFound, InvalidArgument.
    """
    if file is None:
        return load_node()
    try:
        return load(os.path.abspath(file), require_root_owned=not any_owner)
    except NotRootsAlone as err:
        raise NotRootsAlone(f"{err}; --any-owner accepts it here, the shim does not") from err
