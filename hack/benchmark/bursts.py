"""Many pods requested at once, on a node in a given state."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tests.integration import processes
from tests.integration.node import Node
from tests.integration.pods import Pods

GONE_S = 20.0
SLEEP = ("sleep", "1000000")


def burst(pods: Pods, count: int) -> float:
    """Seconds until `count` pods of one container, begun at once, are up. Raises CallFailed."""
    began = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        for one in [pool.submit(lambda: pods.run().run(*SLEEP)) for _ in range(count)]:
            one.result()
    return time.perf_counter() - began


def end_spawners(node: Node) -> None:
    """Kill the spawners, and wait until they are gone. Their sockets and locks stay, as after a power cut."""
    for pid in node.spawners():
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    await_no_spawner(node)


def await_no_spawner(node: Node) -> None:
    """Wait for the spawners to end, as they do with their containerd. Raises TimeoutError."""
    end = time.monotonic() + GONE_S
    while any(processes.alive(pid) for pid in node.spawners()):
        if time.monotonic() > end:
            raise TimeoutError(f"a spawner lives after {GONE_S:.0f} s: {node.spawners()}")
        time.sleep(0.01)
