"""Real kills in a real memory cgroup (v1), and the unified files there are on any host with v2 mounted."""

import os
import select
import signal
import time
from pathlib import Path

import pytest

from runtime import cgroup
from runtime.cgroup import Cgroup, oom
from runtime.errors import NotFound
from runtime.linux import mountinfo

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="making cgroups needs root"),
]

LIMIT = 16 << 20


def directory_in(controller):
    """A new cgroup below this process's own in a v1 hierarchy."""
    own = cgroup.locate(os.getpid()).directory(controller)
    if not (Path(own) / "cgroup.event_control").exists() and controller == "memory":
        pytest.skip("needs the v1 memory controller")
    directory = Path(own) / f"pouchrich-test-{os.getpid()}"
    directory.mkdir()
    return directory


def remove(directory):
    deadline = time.monotonic() + 5
    while directory.exists():
        try:
            directory.rmdir()
        except OSError:  # the last exit is still being accounted
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@pytest.fixture
def memory():
    directory = directory_in("memory")
    (directory / "memory.limit_in_bytes").write_text(str(LIMIT))
    yield directory
    remove(directory)


def child_in(directory, action):
    pid = os.fork()
    if pid == 0:
        try:
            (directory / "cgroup.procs").write_text(str(os.getpid()))
            action()
        finally:
            os._exit(0)
    return pid


def use_too_much():
    hoard = []
    while True:
        hoard.append(b"x" * (1 << 20))


def kills_within(watch, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([watch], [], [], 0.1)[0] and (kills := watch.drain()):
            return kills
    return 0


def test_each_kill_is_reported_once_and_removal_is_none(memory):
    watch = oom.watch(Cgroup(controllers=(("memory", str(memory)),)))
    assert watch is not None
    for _ in range(2):
        pid = child_in(memory, use_too_much)
        assert kills_within(watch, 10) == 1
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert watch.drain() == 0
    remove(memory)
    assert select.select([watch], [], [], 5)[0]  # the kernel tells of the removal
    assert watch.drain() == 0
    assert not select.select([watch], [], [], 0.1)[0]
    watch.close()


def test_the_kill_of_init_is_seen_by_the_drain_at_its_exit(memory):
    watch = oom.watch(Cgroup(controllers=(("memory", str(memory)),)))
    assert watch is not None
    os.waitpid(child_in(memory, use_too_much), 0)
    assert watch.drain() == 1
    watch.close()


def test_a_limit_hit_further_up_is_not_a_kill_here(memory):
    inner = memory / "inner"
    inner.mkdir()
    watch = oom.watch(Cgroup(controllers=(("memory", str(inner)),)))
    assert watch is not None
    try:
        os.waitpid(child_in(memory, use_too_much), 0)
        assert select.select([watch], [], [], 5)[0]  # woken, as the parent ran out
        assert kills_within(watch, 0.3) == 0
    finally:
        watch.close()
        remove(inner)


def test_a_process_is_located_measured_and_listed_where_it_was_put(memory):
    pid = child_in(memory, signal.pause)
    try:
        deadline = time.monotonic() + 5
        while cgroup.locate(pid).directory("memory") != str(memory):
            assert time.monotonic() < deadline
        found = cgroup.locate(pid)
        assert cgroup.procs(found) == [pid]
        assert cgroup.metrics(found)["memory"]["usage"]["limit"] == LIMIT
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NotFound):
            cgroup.locate(pid)  # a zombie, which v1 shows in the root cgroup
        os.waitpid(pid, 0)


def test_the_unified_hierarchy_gives_cpu_time_and_pressure():
    mounts = [entry for entry in mountinfo.read() if entry.fstype == "cgroup2"]
    if not mounts:
        pytest.skip("needs cgroup2")
    directory = Path(mounts[0].mount_point) / f"pouchrich-test-{os.getpid()}"
    directory.mkdir()
    try:
        metrics = cgroup.metrics(Cgroup(unified=str(directory)))
        assert metrics["cpu"]["usage_usec"] == 0
    finally:
        remove(directory)
    with pytest.raises(NotFound):
        cgroup.metrics(Cgroup(unified=str(directory)))
