"""pouchrich.running: a containerd found by its socket, and what its process says of it."""

import os
import socket
import subprocess
import sys
import time

import pytest

from pouchrich import containerd_checks, running
from pouchrich.checks import FAIL, OK, WARN
from pouchrich.processes import uptime_s

LISTENS = """
import socket, sys, time
one = socket.socket(socket.AF_UNIX)
one.bind(sys.argv[1])
one.listen()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["containerd"], "/etc/containerd/config.toml"),
        (["/x/containerd", "-c", "/a.toml", "-a", "/s"], "/a.toml"),
        (["containerd", "--address", "/s", "--config=/b.toml"], "/b.toml"),
        (["containerd", "--config"], "/etc/containerd/config.toml"),
    ],
)
def test_the_configuration_is_the_command_lines(words, file):
    assert running.config_of(words) == file


@pytest.fixture
def listener(tmp_path):
    """A process that listens, with a command line like containerd's of rke2."""
    path = str(tmp_path / "s")
    config = tmp_path / "rke2/config.toml"
    config.parent.mkdir()
    config.write_text("version = 2\n")
    script = tmp_path / "containerd.py"
    script.write_text(LISTENS)
    words = [sys.executable, str(script), path, "--config", "rke2/config.toml"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield path, config, process
        process.kill()


def test_the_kernel_tells_whose_socket_it_is(listener):
    path, config, process = listener
    (found,) = running.find((("k3s", path), ("k0s", f"{path}-none")))
    assert (found.kind, found.pid, found.config, found.problem) == ("rke2", process.pid, str(config), "")
    assert os.path.realpath(found.program.path) == os.path.realpath(sys.executable)
    assert found.program.name == sys.executable, "by another name it may be another program"
    assert running.changed_since(found) == ""
    later = time.time() + 60
    os.utime(config, (later, later))
    assert running.changed_since(found) == str(config)


def test_doctor_says_where_rke2_wants_the_handler_and_that_a_file_was_not_read_yet(listener, monkeypatch):
    path, config, _ = listener
    monkeypatch.setattr(running.shutil, "which", lambda *_, **__: None)  # no ctr
    later = time.time() + 60
    os.utime(config, (later, later))
    (one,) = running.find((("k3s", path),))
    found = list(containerd_checks.of_running(one))
    levels = {check.what: check for check in found if check.level != "ok"}
    assert (levels["containerd of rke2"].level, levels["handlers"].level) == (WARN, FAIL)
    assert "was changed after containerd's start" in levels["containerd of rke2"].found
    assert "config.toml.tmpl" in levels["handlers"].advice


def test_a_socket_that_nobody_listens_at_is_a_failure(tmp_path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s"))
    (found,) = running.find((("containerd", str(tmp_path / "s")),))
    (check,) = containerd_checks.of_running(found)
    assert (check.level, check.found) == (FAIL, f"{tmp_path}/s: connection refused")


def test_none_that_runs_is_told_with_the_way_out(tmp_path):
    found = list(containerd_checks.of_node(None, [], str(tmp_path / "none")))
    assert (found[0].level, found[0].advice) == (WARN, "start it, or name its socket with --address")


@pytest.mark.parametrize("reaped", [False, True])
def test_one_that_ends_while_it_is_looked_at_is_a_problem_and_no_error(listener, monkeypatch, reaped):
    path, _, process = listener
    look = running.look

    def look_and_end(pid, proc):
        found = look(pid, proc)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        return found

    monkeypatch.setattr(running, "look", look_and_end)
    (found,) = running.find((("containerd", path),))
    assert (found.pid, found.problem) == (0, "the process that listened there has just ended")


def test_a_configuration_that_goes_while_it_is_looked_at_ends_no_look(listener, tmp_path, monkeypatch):
    path, _, _ = listener
    gone = str(tmp_path / "gone.toml")
    (found,) = running.find((("containerd", path),))
    monkeypatch.setattr(running, "uptime_s", lambda proc: uptime_s(proc) + 60)  # it has run for a minute
    monkeypatch.setattr(running, "failed_plugins", lambda _one: iter(()))
    monkeypatch.setattr(running, "documents", lambda _file: iter([(gone, {})]))
    warned = [check.found for check in containerd_checks.of_running(found) if check.level == WARN]
    assert f"{gone} was changed after containerd's start" in warned


@pytest.mark.parametrize(
    ("text", "level"),
    [('version = 2\ndisabled_plugins = ["cri"]\n', OK), ("version = 2\n", FAIL), (None, FAIL)],
    ids=["of Docker", "without a handler", "without a file"],
)
def test_a_containerd_beside_the_one_with_the_handler_needs_none(listener, tmp_path, monkeypatch, text, level):
    """Docker's, beside k3s'; and it is the other's PATH that is looked at."""
    path, config, _ = listener
    monkeypatch.setattr(running, "failed_plugins", lambda one: [])
    handler = 'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rich'
    config.write_text(f'version = 2\n[{handler}]\nruntime_type = "io.containerd.pouchrich.v2"\n')
    (ours,) = running.find((("k3s", path),))
    other = tmp_path / "docker.toml"
    if text is not None:
        other.write_text(text)
    docker = ours._replace(kind="containerd", config=str(other))
    monkeypatch.setattr(running, "find", lambda sockets: [docker, ours])
    here = containerd_checks.found(None)
    assert [one.kind for one in here] == ["rke2", "containerd"]
    found = [one for one in containerd_checks.of_node(None, here, None) if one.what == "handlers"]
    assert [(one.level, str(other) in one.found) for one in found] == [(OK, True)]
    (alone,) = [one for one in containerd_checks.of_node(None, [docker], None) if one.what == "handlers"]
    assert alone.level == level
