"""Whether the versions from which pods of this node still run accept a configuration.

A pod server reads the node's configuration at each Create, and the version that it runs may not know a key that came
later. Each container of its pods is refused then, also one that the kubelet starts again.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from pouchrich.node import kept
from pouchrich.node.serving import pod_servers
from shim.installed.location import VERSION_DIRECTORY


class Refusal(NamedTuple):
    """`version` is the name of the version's directory, `pods` the number of pods that run from it."""

    version: str
    pods: int
    reason: str

    def __str__(self) -> str:
        pods = "1 pod runs" if self.pods == 1 else f"{self.pods} pods run"
        return f"version {self.version}, from which {pods}, refuses it: {self.reason}"


ADVICE = "each container that is created in these pods is refused, also a restarted one, until the key is removed again"


def refusals(file: str, *, any_owner: bool = False, directory: str = VERSION_DIRECTORY) -> Iterator[Refusal]:
    """The versions beside the one in `directory` from which pods run and which refuse the configuration in `file`.

    None from a checkout, without root, and for a version that cannot be asked. Raises OSError.
    """
    if not directory or os.geteuid() != 0:
        return
    home, own = os.path.split(directory)
    pods = Counter(one.version for one in pod_servers(home))
    for version in sorted(pods.keys() - {own, ""}):
        if reason := kept.refusal(f"{home}/{version}", file, any_owner=any_owner):
            yield Refusal(version, pods[version], reason)
