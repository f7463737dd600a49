"""Which programs use the CPU time of a pod: containerd, the shim, the OCI runtime, or programs that these run.

CPU times are seconds.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from benchmark.tracing import Event

OTHERS = (SHIM, RUNTIME, NETWORK, OTHER) = ("the shim", "the OCI runtime", "CNI plugins", "other programs")
"""Names of programs; the caller names containerd. Other programs are those in the containers, iptables and such."""

PYTHONS = ("python", "python3", *(f"python3.{minor}" for minor in range(11, 15)))


class Account:
    """Assigns each process to a program: the one that it executed, or that of the process that forked it.

    `known` has the processes that exist already. A program's file name tells what it is: the shim if it is in `shims`,
    a CNI plugin if in `plugins`, the OCI runtime if in `runtimes` or a number, because only the OCI runtime is executed
    from a descriptor, /proc/self/fd/N.
    """

    def __init__(
        self,
        known: Mapping[int, str],
        *,
        shims: Collection[str],
        plugins: Collection[str],
        runtimes: Collection[str],
    ) -> None:
        self._whose = dict(known)
        self._names = {name: SHIM for name in shims} | {name: NETWORK for name in plugins}
        self._names |= {name: RUNTIME for name in runtimes}

    def add(self, events: Iterable[Event]) -> dict[str, float]:
        """Name -> CPU seconds in `events`, which are in order and follow the earlier ones without a gap."""
        took = defaultdict[str, float](float)
        for event in events:
            if event.kind == "fork":
                self._whose[event.child] = self._whose.get(event.pid, OTHER)
            elif event.kind == "exec":
                self._whose[event.pid] = RUNTIME if event.program.isdigit() else self._names.get(event.program, OTHER)
            elif event.kind == "runtime":
                took[self._whose.get(event.pid, OTHER)] += event.took
        return dict(took)
