"""runtime.hooks.host_supervisor: who is below whom, and how a hook is started and ended."""

import json
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from runtime.hooks import host_supervisor
from runtime.hooks.host_supervisor import descendants

TABLE = {
    1: (0, "S", "1"),
    10: (1, "S", "2"),
    11: (10, "S", "3"),
    12: (11, "Z", "4"),
    13: (11, "R", "5"),
    14: (13, "D", "6"),
    20: (1, "S", "7"),
}


def test_descendants_are_found_at_any_depth_and_zombies_are_none():
    assert descendants(10, TABLE) == {11: "3", 13: "5", 14: "6"}


def test_neighbours_and_the_top_itself_are_no_descendants():
    assert descendants(20, TABLE) == {}


def test_a_table_that_was_read_while_pids_changed_hands_does_not_loop():
    assert descendants(1, {2: (3, "S", "1"), 3: (2, "S", "1"), 4: (1, "S", "1")}) == {4: "1"}


def hook(*command):
    """A hook that a supervisor has started: its pid."""
    pid = host_supervisor._start(list(command), {})
    assert isinstance(pid, int), pid
    return pid


def test_a_hook_leads_a_session_of_its_own(tmp_path):
    pid = hook("/bin/sh", "-c", f'read -r line </proc/$$/stat; echo "$line" >{tmp_path}/stat')
    os.waitpid(pid, 0)
    assert (tmp_path / "stat").read_text().rpartition(")")[2].split()[3] == str(pid)


def test_a_hook_is_no_more_precious_than_others(tmp_path, monkeypatch):
    monkeypatch.setattr(host_supervisor, "_reset_negative_oom_score", (tmp_path / "said").touch)
    os.waitpid(hook("/bin/sh", "-c", ":"), 0)
    assert (tmp_path / "said").exists()


def test_what_has_the_pid_of_an_earlier_process_is_not_killed(monkeypatch):
    sent = []
    monkeypatch.setattr(host_supervisor.signal, "pidfd_send_signal", lambda fd, number: sent.append(number))
    began = host_supervisor._stat(os.getpid())[19]
    host_supervisor.kill(os.getpid(), str(int(began) + 1))
    assert sent == []
    host_supervisor.kill(os.getpid(), began)
    assert sent == [signal.SIGKILL]


def test_processes_that_do_not_die_are_counted_when_the_patience_is_used_up(monkeypatch):
    waits = []
    monkeypatch.setattr(host_supervisor, "time", SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append))
    monkeypatch.setattr(host_supervisor, "_reap", lambda: None)
    monkeypatch.setattr(host_supervisor, "kill", lambda pid, began: None)
    monkeypatch.setattr(host_supervisor, "processes", dict)
    monkeypatch.setattr(host_supervisor, "descendants", lambda top, table: {7: "1", 8: "1"})
    assert host_supervisor.kill_descendants(1.0) == 2
    assert sum(waits) == pytest.approx(1.0, abs=0.02)


def test_a_supervisor_says_that_it_begins_before_the_hook_does(tmp_path):
    answer, seen = tmp_path / "answer", tmp_path / "seen"
    orders = {"command": ["/bin/sh", "-c", f"cat {answer} >{seen}; exit 3"], "env": {"PATH": "/bin"}, "timeout_s": 9}
    (tmp_path / "orders").write_text(json.dumps(orders))
    files = [
        (os.POSIX_SPAWN_OPEN, host_supervisor.ORDERS, str(tmp_path / "orders"), os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, host_supervisor.ANSWER, str(answer), os.O_WRONLY | os.O_CREAT, 0o600),
    ]
    pid = os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", host_supervisor.__file__], {}, file_actions=files)
    assert os.waitpid(pid, 0)[1] == 0
    assert (seen.read_text(), answer.read_text()) == (host_supervisor.BEGUN, host_supervisor.BEGUN + "exit 3")
