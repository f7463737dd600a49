"""Tells of a rich container whose pod server was killed, and keeps its log: nobody else is left who could.

`delete` imports this only where a pod server has left a container.
"""

import os
import sys
import time

if False:  # typing.TYPE_CHECKING, without the import
    from shim.pod.cleanup import BundleState  # noqa: TC001 (this is such a block)

TRIES, PAUSE_S = 10, 0.01  # while another process adds to the same series


def tell(namespace: str, container_id: str, left: "BundleState", init: int) -> None:
    """Count the end of a container, keep its log, and write a line to standard error, which containerd logs.

    Call it before the container is killed. `init` is the PID of its init, or 0. Of one whose init has ended before
    nothing is told: as a rule its pod server did that, or the `delete` that this one makes up for. Raises nothing.
    """
    made = (left.record or {}).get("plan") or {}
    if not left.is_whole or not made.get("rich") or not init or not os.path.exists(f"/proc/{init}"):
        return
    mode = str(made.get("mode"))
    sys.stderr.write(f"container {container_id}: killed, because its pod server was gone (mode {mode})\n")
    _count(mode)
    _keep(namespace, container_id, left, mode, str((made.get("boot") or {}).get("init") or mode))


def _keep(namespace: str, container_id: str, left: "BundleState", mode: str, init: str) -> None:
    from runtime import ended, paths
    from runtime.errors import text_of

    about = (left.spec or {}).get("annotations") or {}
    more = {"mode": mode, "init": init, "reason": "its pod server was killed", "root": paths.ENDED}
    try:
        ended.keep(namespace, container_id, left.held.bundle, annotations=about, **more)
    except OSError as err:
        sys.stderr.write(f"container {container_id}: its log is not kept: {text_of(err)}\n")


def _count(mode: str) -> None:
    from runtime import measured, paths
    from runtime.hooks.environment import SHIM_KILLED

    labels = {"mode": mode, "reason": SHIM_KILLED.reason}
    try:
        for _ in range(TRIES):
            if measured.add("exits", labels, 1.0, root=paths.METRICS):
                return
            time.sleep(PAUSE_S)
    except (OSError, ValueError) as err:
        from runtime.errors import text_of

        sys.stderr.write(f"metrics: {text_of(err)}\n")
