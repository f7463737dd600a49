"""The end of a pod's sandbox, which calls off what still starts in the pod.

containerd's CRI plugin stops no container that starts: StopContainer and StopPodSandbox pass over it, and
RemovePodSandbox and RemoveContainer are refused until its start is over (container_stop.go, container_remove.go). So
the end of the sandbox is all that a pod server hears of a pod that nobody wants any more, and a boot or a prestart hook
would hold up its removal for as long as it likes.
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
    """The one of a pod server, and the rich containers of its pod that are being started."""

    def __init__(self) -> None:
        self._starting: set[Container] = set()
        self._called_off: set[Container] = set()

    @contextmanager
    def starting(self, container: Container) -> Iterator[None]:
        """Around the start of `container`. Raises RuntimeFailed where the sandbox's end has called that off."""
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
        """It has ended: kill the PID 1 of every rich container that starts. A plain one starts at once."""
        for container in self._starting:
            if isinstance(container.life, PlainLifecycle) or container.init.phase is not Phase.STARTING:
                continue
            _log.warning("container %s: its start is called off, as the pod's sandbox has ended", container.id)
            self._called_off.add(container)
            if container.init.exit is None:  # our own child, and not reaped yet: the pid cannot be another process's
                with suppress(ProcessLookupError):
                    os.kill(container.init.pid, signal.SIGKILL)


class SandboxLifecycle(PlainLifecycle):
    """The life of the pod's sandbox, which is a plain container: its end is `sandbox`'s."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def ended(self, exit: Exit) -> Exit:
        """Init's end is the task's, and the sandbox's."""
        self._sandbox.ended()
        return exit
