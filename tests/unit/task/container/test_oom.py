"""shim.task.container.oom: what an OOM kill means for a container that ends later."""

import os
from types import SimpleNamespace

import pytest

from runtime.cgroup import Cgroup
from shim.task.container import oom
from tests.fakes.loop import in_loop


class Watch:
    """Stands for the kernel's: it has a kill whenever `kills` says so."""

    def __init__(self) -> None:
        self._fd, self._other = os.pipe()
        self.kills = False

    def fileno(self) -> int:
        return self._fd

    def drain(self) -> bool:
        return self.kills

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._other)


async def told() -> None:
    pass


@in_loop
async def test_a_kill_of_long_ago_is_not_why_a_container_ends(monkeypatch: pytest.MonkeyPatch):
    """With cgroup v1, or where only one process is killed, a container lives on."""
    watch, now = Watch(), [1000.0]
    monkeypatch.setattr(oom.oom, "watch", lambda cgroup: watch)
    monkeypatch.setattr(oom, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reports = oom.OOMReports(Cgroup("/sys/fs/cgroup/c"), told)
    reports.drain()
    assert not reports.is_recent
    watch.kills = True
    reports.drain()
    watch.kills = False
    now[0] += oom.RECENT_S - 1
    reports.drain()
    assert reports.is_recent
    now[0] += 2
    assert not reports.is_recent
    await reports.wait_delivered()
    reports.close()
