"""The cost of cleaning up after a pod whose shim was killed, for example by the OOM killer. Times are seconds."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping

from benchmark.bursts import SLEEP
from tests.integration.node import Node
from tests.integration.pods import Pods

GONE_S = 60.0
PAUSE_S = 0.001


def samples(
    node: Node, pods: Mapping[str, Pods], cpu_s: Callable[[], float], rounds: int
) -> Iterator[tuple[str, str, float]]:
    """(handler's name in the report, row, seconds) for `rounds` pods of one container with each of `pods`.

    The rows count from the kill: until the sandbox's process is dead, and until containerd has removed the sandbox's
    bundle, which it does when the shim's `delete` has answered; and, by `cpu_s`, the CPU time of containerd and its
    shims until then. What containerd does with the pod's container differs: see docs/failures.md. Raises TimeoutError.
    """
    for turn in range(-2, rounds):
        for name, some in pods.items():
            pod = some.run()
            pod.run(*SLEEP)
            (shim,) = node.shims(containing=pod.id)
            bundle = node.base / f"state/io.containerd.runtime.v2.task/k8s.io/{pod.id}"
            process = os.pidfd_open(pod.pid())
            before, began = cpu_s(), time.monotonic()
            os.kill(shim, signal.SIGKILL)
            if not select.select([process], [], [], GONE_S)[0]:
                raise TimeoutError(f"{name}: the sandbox lives {GONE_S:.0f} s after its shim")
            dead = time.monotonic()
            os.close(process)
            while bundle.exists():
                if time.monotonic() - began > GONE_S:
                    raise TimeoutError(f"{name}: the bundle is there {GONE_S:.0f} s after its shim")
                time.sleep(PAUSE_S)
            gone, spent = time.monotonic(), cpu_s() - before
            if turn >= 0:
                yield name, "shim killed, until its sandbox is dead", dead - began
                yield name, "shim killed, until its bundle is gone", gone - began
                yield name, "shim killed, CPU until its bundle is gone", spent
            while some.remove_all():
                time.sleep(0.1)
