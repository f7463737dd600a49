"""Removes what an interrupted create has left, and waits only so long for processes that do not let themselves be seen.

The command lines of all processes of the node are read for that. The kernel takes a lock of each process meanwhile,
which a process of any other pod can hold for seconds by forking (fs/proc/base.c, get_mm_cmdline).
"""

import asyncio
import logging

from runtime.oci import interrupted
from shim.task.thread import in_thread

PATIENCE_S = 15.0

_log = logging.getLogger(__name__)


async def remove(bundle: str, container_id: str) -> None:
    """See `interrupted.remove_leftovers`. After PATIENCE_S its thread goes on alone. Raises nothing."""
    removing = in_thread(lambda: interrupted.remove_leftovers(bundle, container_id, patience_s=interrupted.DYING_S))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(removing)
    except TimeoutError:
        _log.warning("container %s: looking at the node's processes takes longer than %gs", container_id, PATIENCE_S)
    except OSError as err:
        _log.warning("container %s: what its create has left: %s", container_id, err)
