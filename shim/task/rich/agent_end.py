"""Ends an agent that is to be started anew: with SIGTERM, and after a grace period with SIGKILL."""

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
"""The seconds between SIGTERM and SIGKILL; the same as TimeoutStopSec= of an agent's unit (`runtime.agents.unit`)."""
KILL_FOR_S = 5.0


async def end_process(pid: int, ended: "asyncio.Future[Exit]", *, grace_s: float = GRACE_S) -> None:
    """Send SIGTERM to our child `pid`; after `grace_s` seconds SIGKILL to it and all of its descendants.

    `ended` is the child's exit. Returns once it is done, or KILL_FOR_S seconds after the SIGKILL if the process cannot
    die. If the agent ends on SIGTERM, the processes that it leaves behind live on, as after any other end of an agent.
    """
    if ended.done():
        return
    # Our child, not reaped yet, since this event loop does the reaping: the PID cannot be another process's.
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
