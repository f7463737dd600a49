"""Who takes the processor time that a pod costs: containerd, the shim, the OCI runtime, or what they run beside them.

Processor times are seconds.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from benchmark.tracing import Event

OTHERS = (SHIM, RUNTIME, NETWORK, OTHER) = ("the shim", "the OCI runtime", "CNI plugins", "other programs")
"""containerd is called what whoever asks calls it. Other programs: what runs in the containers, iptables and such."""

PYTHONS = ("python", "python3", *(f"python3.{minor}" for minor in range(11, 15)))


class Account:
    """Names each process by its program: what it executed, or the one that forked it.

    `known` has the processes that are there already. A program is the shim's by its file name in `shims`, a CNI plugin
    by one in `plugins`, the OCI runtime by `runtimes`, or by a number: from a descriptor, /proc/self/fd/N, nothing else
    is executed.
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
        """What each took of `events`, by name; they come in order, without a gap to those before."""
        took = defaultdict[str, float](float)
        for event in events:
            if event.kind == "fork":
                self._whose[event.child] = self._whose.get(event.pid, OTHER)
            elif event.kind == "exec":
                self._whose[event.pid] = RUNTIME if event.program.isdigit() else self._names.get(event.program, OTHER)
            elif event.kind == "runtime":
                took[self._whose.get(event.pid, OTHER)] += event.took
        return dict(took)
