"""Files stand in for the kernel's; the wake-ups are given by hand, as the kernel gives them."""

import os
import select
from pathlib import Path

import pytest

from runtime.cgroup import Cgroup, oom
from tests.fakes.loop import open_fds

NO_KILL = "oom_kill_disable 0\nunder_oom 1\noom_kill 4\n"


def readable(watch, timeout_s=0.0):
    return bool(select.select([watch], [], [], timeout_s)[0])


@pytest.fixture
def v1(tree):
    """A v1 watch, its directory, and the eventfd it registered."""
    root = Path(tree({"memory.oom_control": NO_KILL, "cgroup.event_control": ""}))
    watch = oom.watch(Cgroup(controllers=(("memory", str(root)),)))
    assert watch is not None
    event, control = map(int, (root / "cgroup.event_control").read_text().split())
    assert os.readlink(f"/proc/self/fd/{control}") == str(root / "memory.oom_control")
    yield watch, root, event
    watch.close()


def test_v1_reports_growth_and_not_what_was_before(v1):
    watch, root, event = v1
    assert watch.drain() == 0
    assert not readable(watch)
    (root / "memory.oom_control").write_text(NO_KILL.replace("4", "6"))
    os.eventfd_write(event, 1)
    assert readable(watch)
    assert watch.drain() == 2
    assert watch.drain() == 0
    assert not readable(watch)


def test_v1_looks_again_when_the_wake_up_came_before_the_kill(v1, monkeypatch):
    monkeypatch.setattr(oom, "_SECOND_LOOKS_S", (0.2, 0.2))
    watch, root, event = v1
    os.eventfd_write(event, 1)
    assert watch.drain() == 0
    assert not readable(watch)
    (root / "memory.oom_control").write_text(NO_KILL.replace("4", "5"))
    assert readable(watch, 5.0)
    assert watch.drain() == 1
    assert not readable(watch, 0.02)


def test_v1_looks_again_for_the_second_of_two_wake_ups_when_it_saw_one_kill(v1, monkeypatch):
    monkeypatch.setattr(oom, "_SECOND_LOOKS_S", (0.2, 0.2))
    watch, root, event = v1
    (root / "memory.oom_control").write_text(NO_KILL.replace("4", "5"))
    os.eventfd_write(event, 2)
    assert watch.drain() == 1
    (root / "memory.oom_control").write_text(NO_KILL.replace("4", "6"))
    assert readable(watch, 5.0)
    assert watch.drain() == 1
    assert not readable(watch, 0.3)


def test_v1_gives_up_looking_when_nothing_is_killed(v1, monkeypatch):
    monkeypatch.setattr(oom, "_SECOND_LOOKS_S", (0.001, 0.001))
    watch, _, event = v1
    os.eventfd_write(event, 3)
    looks = 0
    while readable(watch, 0.05):
        assert watch.drain() == 0
        looks += 1
    assert looks == 3


def test_v1_forgets_the_wake_ups_that_it_gave_up_on(v1, monkeypatch):
    monkeypatch.setattr(oom, "_SECOND_LOOKS_S", (0.001,))
    watch, root, event = v1
    os.eventfd_write(event, 1)
    assert watch.drain() == 0
    assert readable(watch, 5.0)
    assert watch.drain() == 0
    (root / "memory.oom_control").write_text(NO_KILL.replace("4", "5"))
    os.eventfd_write(event, 1)
    assert watch.drain() == 1
    assert not readable(watch, 0.05)


def test_v1_wakes_nobody_after_a_look_that_was_not_asked_for(v1, monkeypatch):
    monkeypatch.setattr(oom, "_SECOND_LOOKS_S", (0.001, 0.001))
    watch, _, _ = v1
    assert watch.drain() == 0
    assert not readable(watch, 0.05)


def test_v1_wakes_nobody_for_a_second_look_when_the_kill_was_seen_before_it(v1, monkeypatch):
    monkeypatch.setattr(oom, "_SECOND_LOOKS_S", (0.02, 0.02))
    watch, root, event = v1
    os.eventfd_write(event, 1)
    assert watch.drain() == 0
    (root / "memory.oom_control").write_text(NO_KILL.replace("4", "5"))
    assert watch.drain() == 1
    assert not readable(watch, 0.1)


def test_v1_counts_wake_ups_where_the_kernel_counts_no_kills(v1):
    watch, root, event = v1
    (root / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\n")
    assert watch.drain() == 0
    os.eventfd_write(event, 1)
    assert watch.drain() == 1
    assert watch.drain() == 0


def test_v1_begins_to_look_anew_with_each_wake_up(v1, monkeypatch):
    monkeypatch.setattr(oom, "_SECOND_LOOKS_S", (0.001, 0.001))
    watch, _, event = v1
    for _ in range(2):
        os.eventfd_write(event, 1)
        looks = 0
        while readable(watch, 0.05):
            assert watch.drain() == 0
            looks += 1
        assert looks == 3


def test_v1_takes_the_end_of_the_cgroup_for_no_kill(v1):
    watch, _, event = v1
    gone = os.open(os.devnull, os.O_WRONLY)  # cannot be read either
    os.dup2(gone, watch._counter.fd)
    os.close(gone)
    os.eventfd_write(event, 1)
    assert watch.drain() == 0


@pytest.fixture
def v2(tree):
    root = Path(tree({"memory.events": "oom 9\noom_kill 1\noom_group_kill 0\n", "cgroup.events": "populated 1\n"}))
    watch = oom.watch(Cgroup(unified=str(root)))
    assert watch is not None
    yield watch, root
    watch.close()


def test_v2_reports_growth_of_oom_kill_only(v2):
    watch, root = v2
    assert watch.drain() == 0
    assert not readable(watch)
    (root / "memory.events").write_text("oom 12\noom_kill 1\noom_group_kill 1\n")
    assert readable(watch)
    assert watch.drain() == 0
    (root / "memory.events").write_text("oom 12\noom_kill 3\noom_group_kill 1\n")
    assert watch.drain() == 2
    assert not readable(watch)


def test_v2_wakes_when_the_cgroup_empties(v2):
    watch, root = v2
    (root / "cgroup.events").write_text("populated 0\n")
    assert readable(watch)
    assert watch.drain() == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_closed_watch_is_silent_and_gives_its_descriptors_back(version, request):
    before = open_fds()
    watch = request.getfixturevalue(version)[0]
    watch.close()
    assert open_fds() == before
    watch.close()
    assert watch.drain() == 0


def test_nothing_to_watch_is_none_and_leaves_no_descriptor(tree):
    root = tree({"cpu.stat": ""})
    before = open_fds()
    assert oom.watch(Cgroup(unified=root)) is None
    assert oom.watch(Cgroup(unified=f"{root}/gone")) is None
    assert oom.watch(Cgroup(controllers=(("cpu", root),))) is None
    assert oom.watch(Cgroup(controllers=(("memory", root),))) is None
    assert open_fds() == before
