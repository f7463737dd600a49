"""The configuration that a command works on: the node's own, or that of a file which the command line names."""

import os

from pouchrich import node_files
from runtime.config import Config, load, load_node
from runtime.config.file import NotRootsAlone

ANY_OWNER = "accept a FILE that root does not own or others can write"


def given(file: str | None, *, any_owner: bool) -> Config:
    """The configuration in `file`, a path as in a shell, or the node's if that is None.

    `any_owner` accepts a file that others than root can change; this does not look at the programs of its host hooks
    then. Raises NotFound, InvalidArgument, FailedPrecondition.
    """
    if file is None:
        found = load_node(programs=False)
    else:
        try:
            found = load(os.path.abspath(file), require_root_owned=not any_owner, programs=False)
        except NotRootsAlone as err:
            raise NotRootsAlone(f"{err}; --any-owner accepts it here, the shim does not") from err
    if file is None or not any_owner:
        node_files.check_programs(found)
    return found
