"""Real kills in a real memory cgroup (v1), and the unified files there are on any host with v2 mounted."""

import gc
import os
import select
import signal
import time
from pathlib import Path

import pytest

from protos.gen import cgroups_v1_pb2, cgroups_v2_pb2
from runtime import cgroup
from runtime.cgroup import Cgroup, oom
from runtime.errors import NotFound
from runtime.linux import mountinfo
from shim.task.stats.metrics import Metrics

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
        metrics = cgroups_v1_pb2.Metrics.FromString(Metrics(found).to_any().value)
        assert metrics.memory.usage.limit == LIMIT
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
    metrics = Metrics(Cgroup(unified=str(directory)))
    try:
        assert metrics_of(metrics).HasField("cpu")
        assert metrics_of(metrics).cpu.usage_usec == 0
    finally:
        remove(directory)
    with pytest.raises(NotFound):
        metrics.to_any()


def metrics_of(metrics):
    return cgroups_v2_pb2.Metrics.FromString(metrics.to_any().value)


def opened_in(directory):
    """What this process has open of a cgroup."""
    links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return [link for link in links if link.startswith(f"{directory}/")]


def test_a_cgroup_whose_files_are_kept_open_can_go_and_another_of_its_name_is_read(memory):
    gc.collect()
    others = opened_in(memory)  # the cgroup of another test had this name
    metrics = Metrics(Cgroup(controllers=(("memory", str(memory)),)))
    assert cgroups_v1_pb2.Metrics.FromString(metrics.to_any().value).memory.usage.limit == LIMIT
    assert len(opened_in(memory)) > len(others)
    remove(memory)
    with pytest.raises(NotFound):
        metrics.to_any()
    assert opened_in(memory) == others
    memory.mkdir()
    metrics.to_any()
    remove(memory)
    memory.mkdir()
    (memory / "memory.limit_in_bytes").write_text(str(2 * LIMIT))
    assert cgroups_v1_pb2.Metrics.FromString(metrics.to_any().value).memory.usage.limit == 2 * LIMIT


def test_metrics_are_what_the_files_say(memory):
    pid = child_in(memory, signal.pause)
    try:
        found = Metrics(Cgroup(controllers=(("memory", str(memory)),)))
        until_moved(memory, pid)
        for _ in range(3):
            read = cgroups_v1_pb2.Metrics.FromString(found.to_any().value).memory
            lines = dict(line.split() for line in (memory / "memory.stat").read_text().splitlines())
            expected = [int(lines[key]) for key in ("total_pgfault", "hierarchical_memory_limit", "total_rss")]
            assert [read.total_pg_fault, read.hierarchical_memory_limit, read.total_rss] == expected
            for end in ("max_usage_in_bytes", "usage_in_bytes", "failcnt"):
                name = end.removesuffix("_in_bytes").removesuffix("_usage")
                assert getattr(read.usage, name) == int((memory / f"memory.{end}").read_text())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def until_moved(directory, pid):
    deadline = time.monotonic() + 5
    while str(pid) not in (directory / "cgroup.procs").read_text().split():
        assert time.monotonic() < deadline
