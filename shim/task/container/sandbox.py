"""The end of a pod's sandbox, which calls off the starts in the pod.

containerd's CRI plugin does not stop a container that is starting: StopContainer and StopPodSandbox skip it, and
RemovePodSandbox and RemoveContainer are refused until its start is over (container_stop.go, container_remove.go). So
the end of the sandbox is the only sign by which a pod server learns that the pod is to go. Without it a boot or a
prestart hook could delay the removal indefinitely.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from runtime.errors import PouchrichError, RuntimeFailed
from shim.task.container.lifecycle import PlainLifecycle
from shim.task.container.phase import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shim.task.container.container import Container
    from shim.task.reaper import Exit

_log = logging.getLogger(__name__)


class Sandbox:
    """The pod's sandbox, and the containers of the pod that are being started."""

    def __init__(self) -> None:
        self._starting: set[Container] = set()
        self._called_off: set[Container] = set()

    @contextmanager
    def starting(self, container: Container) -> Iterator[None]:
        """A context around the start of `container`. Raises RuntimeFailed if the sandbox's end has called it off."""
        self._starting.add(container)
        try:
            yield
        except PouchrichError as err:
            if container in self._called_off:
                raise RuntimeFailed(f"the pod's sandbox ended while the container started: {err}") from err
            raise
        finally:
            self._starting.discard(container)
            self._called_off.discard(container)

    def ended(self) -> None:
        """The sandbox has ended: kill PID 1 of each rich container that is starting. Plain ones start quickly."""
        for container in self._starting:
            if isinstance(container.life, PlainLifecycle) or container.init.phase is not Phase.STARTING:
                continue
            _log.warning("container %s: its start is called off, as the pod's sandbox has ended", container.id)
            self._called_off.add(container)
            if container.init.exit is None:  # our child, not reaped yet: the PID is its own
                with suppress(ProcessLookupError):
                    os.kill(container.init.pid, signal.SIGKILL)


class SandboxLifecycle(PlainLifecycle):
    """The lifecycle of the sandbox container, which is plain. Its end is reported to `sandbox`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def ended(self, exit: Exit) -> Exit:
        """The task ends as init ended, and the pod's sandbox with it."""
        self._sandbox.ended()
        return exit
