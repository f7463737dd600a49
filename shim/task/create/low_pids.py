"""Says where a create may have failed for a low limit on processes: an OCI runtime that cannot fork does not name it.

The OCI runtime's own processes count too: runc has about ten threads while it creates, a sandbox's container has one.
"""

from contextlib import suppress
from typing import Any

from runtime.cgroup import pids
from runtime.errors import InvalidArgument
from runtime.init.cgroup import path_of

LOW = 20
"""The first pids.max that is not mentioned."""


def hint(spec: dict[str, Any], *, systemd: bool) -> str:
    """What to add to a failed create's error, "" for nothing. `systemd`: systemd makes the cgroup that `spec` names."""
    with suppress(InvalidArgument, OSError):
        most, directory = pids.limit_above(path_of(spec, systemd=systemd)) or (LOW, "")
        if most < LOW:
            allowed = f"{'1 process is' if most == 1 else f'{most} processes are'} allowed ({directory}/pids.max)"
            return f"; only {allowed}, and the OCI runtime's own processes count too: raise it"
    return ""
