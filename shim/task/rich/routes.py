"""Has a container's routes set by a helper program, before the prestart hooks run."""

import os
import sys
from collections.abc import Sequence

from runtime import routes
from runtime.config.model import Route
from runtime.errors import DeadlineExceeded, RuntimeFailed
from shim.task.reaper import Reaper
from shim.task.rich.probe import ask


async def apply(reaper: Reaper, pid: int, wanted: Sequence[Route]) -> str:
    """Set `wanted` in the network namespace of host process `pid`, a child of ours that has not been reaped.

    Returns a warning if the routes are skipped because the namespace is the host's, else "". Raises RuntimeFailed with
    the route and the kernel's reason. Existing routes stay, including those of the pod's other containers.
    """
    if not wanted:
        return ""
    try:
        netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise RuntimeFailed(f"routes: network namespace of pid {pid}: {os.strerror(err.errno or 0).lower()}") from err
    try:
        status, output = await ask(
            reaper,
            routes.command(sys.executable),
            timeout_s=routes.TIMEOUT_S,
            question=routes.question(wanted),
            fds={routes.NETNS_FD: netns},
        )
    except DeadlineExceeded as err:
        raise RuntimeFailed(f"routes: not set within {routes.TIMEOUT_S:g} s") from err
    finally:
        os.close(netns)
    skipped = routes.read_answer(status, output).skipped
    return f"routes: {skipped}, skipped" if skipped else ""
