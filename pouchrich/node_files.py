"""Whether a configuration's paths on this node are as Create demands, asked of file systems that may not answer.

A host hook's program or an agent's mount may be on NFS, FUSE or an automount point. Create gives up such a look after
some seconds (shim/task/thread.py), and so do the commands that look before it.
"""

import threading
from collections.abc import Callable

from runtime.agents import node_check
from runtime.config import Config, check_host_commands
from runtime.errors import FailedPrecondition

PATIENCE_S = 5.0


def check_programs(config: Config) -> None:
    """See `check_host_commands`. Raises InvalidArgument, or FailedPrecondition after PATIENCE_S."""
    _answered(lambda: check_host_commands(config), f"{config.source}: programs of the hooks on the host")


def check_agents(config: Config) -> None:
    """See `node_check.check`. Raises InvalidArgument, or FailedPrecondition after PATIENCE_S."""
    _answered(lambda: node_check.check(config), f"{config.source}: host paths of the agents")


def _answered(check: Callable[[], None], what: str) -> None:
    raised: list[BaseException] = []

    def look() -> None:
        try:
            check()
        except BaseException as err:
            raised.append(err)

    thread = threading.Thread(target=look, daemon=True)  # the command ends although it may still wait
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        raise FailedPrecondition(f"{what} did not answer for {PATIENCE_S:g} s: does a file system hang?")
    if raised:
        raise raised[0]
