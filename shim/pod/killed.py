"""Tells of a rich container whose pod server was killed: nobody else is left who could.

`delete` imports this only where a pod server has left a container.
"""

import os
import sys
import time

if False:  # typing.TYPE_CHECKING, without the import
    from collections.abc import Mapping  # noqa: TC003 (this is such a block)
    from typing import Any

REASON = "ShimKilled"
TRIES, PAUSE_S = 10, 0.01  # while another process adds to the same series


def tell(container_id: str, record: "Mapping[str, Any] | None", init: int) -> None:
    """Count the end of a container and write a line to standard error, which containerd logs. Raises nothing.

    Call it before the container is killed. `record` is its bundle's, and `init` the PID of its init or 0. One whose
    init has ended before is not counted: its pod server did that, or the `delete` that this one makes up for.
    """
    made = (record or {}).get("plan") or {}
    if not made.get("rich") or not init or not os.path.exists(f"/proc/{init}"):
        return
    sys.stderr.write(f"container {container_id}: killed, because its pod server was gone (mode {made.get('mode')})\n")
    _count(str(made.get("mode")))


def _count(mode: str) -> None:
    from runtime import measured, paths

    try:
        for _ in range(TRIES):
            if measured.add("exits", {"mode": mode, "reason": REASON}, 1.0, root=paths.METRICS):
                return
            time.sleep(PAUSE_S)
    except (OSError, ValueError) as err:
        from runtime.errors import text_of

        sys.stderr.write(f"metrics: {text_of(err)}\n")
