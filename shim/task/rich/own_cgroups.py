"""The cgroups of a container whose PID 1 makes cgroups of its own, from before its Create to after its Delete.

What is to be done was planned (`runtime.init.cgroup.Delegation`); here is when.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.cgroup import Cgroup, delegation, upper
from runtime.cgroup.shown import Shown
from runtime.errors import RuntimeFailed
from runtime.init.cgroup import Delegation
from runtime.oci.cli import OCIRuntime
from shim.task.thread import in_thread

FREEZE_S = 5.0
REMOVE_S = 1.0
REST_S = 60.0

_log = logging.getLogger(__name__)


class OwnCgroups:
    """`owner` are the host's ids of who may write to its cgroups. One that has no `plan` does nothing."""

    def __init__(self, container_id: str, plan: Delegation | None, oci: OCIRuntime, owner: tuple[int, int]) -> None:
        self._container_id = container_id
        self._plan = plan
        self._oci = oci
        self._owner = owner
        self._shown: Shown | None = None
        self._own = ""
        self._lower: dict[str, str] = {}
        self._inside: int | None = None
        self._update = asyncio.Lock()

    def prepare(self) -> None:
        """Before the OCI runtime's create. Raises OSError."""
        if self._plan is not None:
            self._oci.inside = self._inside = delegation.prepare(self._plan)

    def created(self, init: int, cgroup: Cgroup | None) -> None:
        """After it; process `init` in `cgroup` waits to be started. Raises OSError, RuntimeFailed."""
        if self._plan is None:
            return
        self._shown = None if cgroup is None else Shown(cgroup)
        self._own = delegation.find(self._plan, init)
        delegation.apply(self._plan, self._own, owner=self._owner)
        delegation.settle(self._plan, self._own, init, owner=self._owner)
        if self._plan.leaf:
            self.show(init)
        if self._plan.parent and cgroup is not None:
            self._lower = dict(cgroup.controllers)
            upper.copy(self._lower)

    @asynccontextmanager
    async def updating(self) -> AsyncIterator[None]:
        """Keep the limits where systemd in the container cannot change them. Raises OSError, RuntimeFailed."""
        if self._plan is None:
            yield
            return
        async with self._update:
            is_held = delegation.freeze(self._plan, self._own)
            try:
                if is_held:
                    await self._frozen()
                    delegation.restore(self._own)
                upper.loosen(self._lower)
                yield
                delegation.apply(self._plan, self._own, owner=self._owner)
                if self._shown is not None:
                    self._shown.again()
            finally:
                upper.copy(self._lower)
                if is_held:
                    delegation.thaw(self._own)

    def show(self, pid: int) -> None:
        """Show the container's limits to host process `pid`, which is in a cgroup that PID 1 has made."""
        if self._shown is not None:
            self._shown.to(pid)

    async def _frozen(self) -> None:
        try:
            async with asyncio.timeout(FREEZE_S):
                while not delegation.is_frozen(self._own):  # noqa: ASYNC110 (a file of the kernel's tells)
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise RuntimeFailed("the container does not freeze, so its limits cannot be changed safely") from None

    def init_ended(self) -> None:
        """See delegation.end: an exec that is being started may be waited for."""
        plan = self._plan
        if plan is not None and plan.unmounted:
            in_thread(lambda: delegation.end(plan))

    async def ended(self) -> None:
        """Nothing of the container runs, and the OCI runtime's delete is to come."""
        plan = self._plan
        if plan is not None and plan.directory:
            await in_thread(lambda: delegation.clear(plan, patience_s=REMOVE_S))

    async def close(self) -> None:
        """After the OCI runtime's delete. Nobody waits longer than REMOVE_S; what is left then goes behind it."""
        plan, inside = self._plan, self._inside
        self._oci.inside = self._inside = None
        if inside is not None:
            os.close(inside)
        if plan is None or await in_thread(lambda: delegation.remove(plan, patience_s=REMOVE_S)):
            return
        _log.warning("container %s: removing its cgroups takes longer than %gs", self._container_id, REMOVE_S)
        in_thread(lambda: delegation.remove(plan, patience_s=REST_S))
