from _thread import get_native_id

import pytest

from runtime.cgroup import attach
from runtime.oci.argv import OCIBinary


def host(tmp_path, text, *files):
    """A host whose process is in the cgroups of `text`, and that has the given files in its hierarchies."""
    (tmp_path / "proc/thread-self").mkdir(parents=True)
    (tmp_path / "proc/thread-self/cgroup").write_text(text)
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return str(tmp_path), str(tmp_path / "proc")


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("12:pids:/a/b\n1:name=systemd:/x\n0::/c\n", "pids/a/b/tasks"),
        ("12:pids:/a/b\n1:name=systemd:/x\n0::/c\n", "systemd/x/tasks"),
        ("3:cpu,cpuacct:/\n", "cpu,cpuacct/tasks"),
        ("0::/c/d\n", "c/d/cgroup.threads"),
        ("0::/\n", "cgroup.threads"),
    ],
)
def test_the_thread_is_moved_to_where_it_is(tmp_path, text, file):
    root, proc = host(tmp_path, text, file)
    assert attach.move_nowhere(root=root, proc=proc)
    assert (tmp_path / file).read_text() == str(get_native_id())


def test_nothing_is_written_to_a_second_hierarchy(tmp_path):
    root, proc = host(tmp_path, "2:pids:/\n1:cpu:/\n", "pids/tasks", "cpu/tasks")
    attach.move_nowhere(root=root, proc=proc)
    assert (tmp_path / "cpu/tasks").read_text() == ""


def test_the_thread_is_moved_as_often_as_wanted(tmp_path, monkeypatch):
    root, proc = host(tmp_path, "0::/\n", "cgroup.threads")
    pauses, wanted = [], iter([True, True, False])
    monkeypatch.setattr(attach.time, "sleep", pauses.append)
    assert attach.move_nowhere(lambda: next(wanted), root=root, proc=proc)
    assert (tmp_path / "cgroup.threads").read_text() == 3 * str(get_native_id())
    assert pauses == 2 * [attach.PAUSE_S]


def test_a_window_is_kept_open_by_one_thread_for_some_time(monkeypatch):
    threads, now = [], [100.0]
    monkeypatch.setattr(attach, "start_new_thread", lambda function, args: function(*args))
    monkeypatch.setattr(attach, "move_nowhere", threads.append)
    monkeypatch.setattr(attach.time, "monotonic", lambda: now[0])
    window, another = attach.MigrationWindow(), attach.MigrationWindow()
    window.open()
    assert [again() for again in threads] == [True]
    window.open()
    another.open()
    assert [again() for again in threads] == [False, True, True]
    for _ in range(round(attach.KEPT_OPEN_S / attach.PAUSE_S) - 1):
        now[0] += attach.PAUSE_S
        assert [again() for again in threads] == [False, True, True]
    window.close()
    now[0] += 0.4 * attach.PAUSE_S
    assert [again() for again in threads] == [False, False, True]
    now[0] += attach.PAUSE_S
    assert [again() for again in threads] == 3 * [False]


def test_a_window_is_not_kept_open_on_a_busy_machine(monkeypatch):
    threads, now = [], [100.0]
    monkeypatch.setattr(attach, "start_new_thread", lambda function, args: function(*args))
    monkeypatch.setattr(attach, "move_nowhere", threads.append)
    monkeypatch.setattr(attach.time, "monotonic", lambda: now[0])
    attach.MigrationWindow().open()
    (again,) = threads
    now[0] += 10 * attach.PAUSE_S  # the first move waits for the window
    assert again()
    now[0] += 1.5 * attach.PAUSE_S
    assert again()
    now[0] += 2.5 * attach.PAUSE_S
    assert not again()


def test_where_there_is_no_hierarchy_that_is_said_and_no_error(tmp_path):
    root, proc = host(tmp_path, "2:pids:/a\n0::/a\n")
    assert not attach.move_nowhere(root=root, proc=proc)
    assert not attach.move_nowhere(root=root, proc=f"{proc}/none")


@pytest.mark.parametrize(
    ("unified", "path", "systemd", "expected"),
    [
        (False, "/usr/bin/crun", False, True),
        (False, "/usr/sbin/runc", False, True),
        (True, "/usr/bin/crun", False, False),
        (True, "/usr/bin/crun", True, True),
        (True, "/usr/sbin/runc", False, True),
    ],
)
def test_only_crun_on_cgroup_v2_makes_a_process_in_its_cgroup(tmp_path, unified, path, systemd, expected):
    if unified:
        (tmp_path / "cgroup.controllers").touch()
    runtime = OCIBinary(path=path, root="/run/x", systemd_cgroup=systemd)
    assert attach.is_moved_by(runtime, str(tmp_path)) == expected


def test_a_cgroup_above_what_is_seen_is_left_alone(tmp_path):
    root, proc = host(tmp_path, "2:pids:/../b\n1:cpu:/\n", "b/tasks", "pids/tasks", "cpu/tasks")
    assert attach.move_nowhere(root=root, proc=proc)
    assert (tmp_path / "cpu/tasks").read_text() == str(get_native_id())


def test_where_no_thread_can_be_had_nothing_is_hastened(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(attach, "start_new_thread", refuse)
    attach.prime_migration()
    attach.MigrationWindow().open()
