"""runtime.hooks.others: whom a prestart hook has left, and that nobody else is killed for it."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from runtime.cgroup import Cgroup
from runtime.hooks import others as others_module
from runtime.hooks.others import kill_others, others

INIT = 100


class Proc:
    """A /proc: pid -> (pid namespace, state)."""

    def __init__(self, directory):
        self.path = directory / "proc"
        self.cgroup = directory / "cgroup"
        self.cgroup.mkdir()

    def add(self, pid, namespace, state="S"):
        directory = self.path / str(pid)
        (directory / "ns").mkdir(parents=True)
        (directory / "ns" / "pid").symlink_to(f"pid:[{namespace}]")
        (directory / "stat").write_text(f"{pid} (a ) b) {state} 1 {pid}")

    def fill(self, *pids):
        (self.cgroup / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return Cgroup(unified=str(self.cgroup))

    def others(self, cgroup):
        return others(INIT, cgroup, proc=str(self.path))


@pytest.fixture
def proc(tmp_path):
    one = Proc(tmp_path)
    for pid in (INIT, 101, 102):
        one.add(pid, 7)
    one.add(1, 1)
    return one


def test_cgroup_and_pid_namespace_are_joined_without_init(proc):
    proc.add(200, 8)  # in a pid namespace below
    assert proc.others(proc.fill(INIT, 101, 200)) == [101, 102, 200]
    assert proc.others(None) == [101, 102]


def test_who_has_ended_is_nobody(proc):
    for pid, state in ((300, "Z"), (301, "X"), (302, "D")):
        proc.add(pid, 7, state)
    assert proc.others(proc.fill(303)) == [101, 102, 302]


def test_an_init_that_is_gone_has_no_namespace_to_kill_in(tmp_path):
    proc = Proc(tmp_path)
    proc.add(1, 1)
    assert proc.others(proc.fill()) == []


def test_a_process_that_took_the_pid_meanwhile_is_not_killed(monkeypatch):
    """Its pidfd was opened, and at the second look it is none of the container's any more."""
    looks = []
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:

        def look(*about, **how):
            looks.append(about)
            return [child.pid] if len(looks) == 1 else []

        monkeypatch.setattr(others_module, "others", look)
        assert kill_others(os.getpid(), None) == 0
        child.communicate(b"\n")
        assert child.returncode == 0


def test_all_are_killed_and_counted(monkeypatch):
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        monkeypatch.setattr(others_module, "others", lambda *about, **how: [child.pid])
        assert kill_others(os.getpid(), None) == 1
        assert child.wait() == -signal.SIGKILL


def test_no_more_are_opened_at_once_than_is_said(monkeypatch):
    opened, found = [], [os.getpid()] * 5
    monkeypatch.setattr(others_module, "AT_ONCE", 2)
    monkeypatch.setattr(others_module, "others", lambda *about, **how: found if not opened else [])
    monkeypatch.setattr(others_module.os, "pidfd_open", lambda pid: opened.append(pid) or os.dup(0))
    assert kill_others(1, None) == 0
    assert len(opened) == 2


def test_more_than_there_are_descriptors_for_go_one_after_the_other(monkeypatch):
    waits = [sys.executable, "-S", "-c", "input()"]
    children = [subprocess.Popen(waits, stdin=subprocess.PIPE) for _ in range(6)]
    living = lambda *about, **how: [child.pid for child in children if child.poll() is None]  # noqa: E731
    monkeypatch.setattr(others_module, "others", living)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 2, before[1]))
    try:
        while kill_others(os.getpid(), None):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [child.returncode for child in children] == [-signal.SIGKILL] * 6
    for child in children:
        child.communicate()
