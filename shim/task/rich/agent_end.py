"""The end of one agent that is to be started anew: asked for, waited for, and then made."""

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from runtime.hooks import host_supervisor
from shim.task.thread import in_thread

if TYPE_CHECKING:
    from shim.task.reaper import Exit

GRACE_S = 5.0
"""Between SIGTERM and SIGKILL, as TimeoutStopSec of an agent's unit (`runtime.agents.unit`)."""
KILL_FOR_S = 5.0


async def end_process(pid: int, ended: "asyncio.Future[Exit]", *, grace_s: float = GRACE_S) -> None:
    """SIGTERM to our child `pid`, whose end `ended` tells; after `grace_s` SIGKILL to it and to all that is below it.

    Returns once `ended` is done, or KILL_FOR_S after the SIGKILL where the process cannot be ended. What an agent that
    went by itself has left behind lives on, as when one ends that nobody asked to.
    """
    if ended.done():
        return
    # Our own child and not reaped yet, as that is told in this loop: the pid cannot be another process's.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    await asyncio.wait([ended], timeout=grace_s)
    if ended.done():
        return
    below = await in_thread(lambda: host_supervisor.descendants(pid, host_supervisor.processes()))
    if ended.done():
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for one, began in below.items():
        host_supervisor.kill(one, began)
    await asyncio.wait([ended], timeout=KILL_FOR_S)
