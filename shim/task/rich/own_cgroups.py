"""The cgroups of a container whose PID 1 makes cgroups of its own, from before its Create to after its Delete.

`runtime.init.cgroup.Delegation` is the plan of what to do; this module does it at the right times.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.cgroup import Cgroup, delegation, v1_parent_limits
from runtime.cgroup.limit_mirror import LimitMirror
from runtime.errors import RuntimeFailed
from runtime.init.cgroup import Delegation
from runtime.oci.cli import OCIRuntime
from shim.task.thread import in_thread

FREEZE_S = 5.0
REMOVE_S = 1.0
REST_S = 60.0

_log = logging.getLogger(__name__)


class OwnCgroups:
    """`owner` has the host uid and gid that may write to the container's cgroups. Without a `plan` nothing is done."""

    def __init__(self, container_id: str, plan: Delegation | None, oci: OCIRuntime, owner: tuple[int, int]) -> None:
        self._container_id = container_id
        self._plan = plan
        self._oci = oci
        self._owner = owner
        self._shown: LimitMirror | None = None
        self._own = ""
        self._lower: dict[str, str] = {}
        self._inside: int | None = None
        self._update = asyncio.Lock()

    def prepare(self) -> None:
        """Call this before the OCI runtime's create. Raises OSError."""
        if self._plan is not None:
            self._oci.inside = self._inside = delegation.prepare(self._plan)

    def created(self, init: int, cgroup: Cgroup | None) -> None:
        """Call this after create, while process `init` in `cgroup` waits for Start. Raises OSError, RuntimeFailed."""
        if self._plan is None:
            return
        self._shown = None if cgroup is None else LimitMirror(cgroup)
        self._own = delegation.find(self._plan, init)
        delegation.apply(self._plan, self._own, owner=self._owner)
        delegation.move_to_leaf(self._plan, self._own, init, owner=self._owner)
        if self._plan.leaf:
            self.show(init)
        if self._plan.parent and cgroup is not None:
            self._lower = dict(cgroup.controllers)
            v1_parent_limits.copy_to_parent(self._lower)

    @asynccontextmanager
    async def updating(self) -> AsyncIterator[None]:
        """A context around a change of limits, which keeps them where systemd in the container cannot change them.

        Raises OSError, RuntimeFailed.
        """
        if self._plan is None:
            yield
            return
        async with self._update:
            is_held = delegation.freeze(self._plan, self._own)
            try:
                if is_held:
                    await self._frozen()
                    delegation.restore(self._own)
                v1_parent_limits.loosen_parent(self._lower)
                yield
                delegation.apply(self._plan, self._own, owner=self._owner)
                if self._shown is not None:
                    self._shown.refresh()
            finally:
                v1_parent_limits.copy_to_parent(self._lower)
                if is_held:
                    delegation.thaw(self._own)

    def show(self, pid: int) -> None:
        """Show the container's limits to host process `pid`, which is in a cgroup that PID 1 has made."""
        if self._shown is not None:
            self._shown.add(pid)

    def show_again(self) -> None:
        """systemd in the container may have reloaded its units, and with that reset the limits that it shows."""
        if self._shown is not None:
            self._shown.refresh()

    async def _frozen(self) -> None:
        try:
            async with asyncio.timeout(FREEZE_S):
                while not delegation.is_frozen(self._own):  # noqa: ASYNC110 (a file of the kernel's tells)
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise RuntimeFailed("the container does not freeze, so its limits cannot be changed safely") from None

    def init_ended(self) -> None:
        """See delegation.end. In a thread, as it may wait for an exec that is being started."""
        plan = self._plan
        if plan is not None and plan.unmounted:
            in_thread(lambda: delegation.end(plan))

    async def ended(self) -> None:
        """No process of the container is left; call this before the OCI runtime's delete."""
        plan = self._plan
        if plan is not None and plan.directory:
            await in_thread(lambda: delegation.clear(plan, patience_s=REMOVE_S))

    async def close(self) -> None:
        """Call this after the OCI runtime's delete. Waits for REMOVE_S at most; a thread removes what is left then."""
        plan, inside = self._plan, self._inside
        self._oci.inside = self._inside = None
        if inside is not None:
            os.close(inside)
        if plan is None or await in_thread(lambda: delegation.remove(plan, patience_s=REMOVE_S)):
            return
        _log.warning("container %s: removing its cgroups takes longer than %gs", self._container_id, REMOVE_S)
        in_thread(lambda: delegation.remove(plan, patience_s=REST_S))
