"""pouchrich.older: a configuration that the version of a running pod refuses, as after an upgrade."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from pouchrich import containerd_checks, older
from pouchrich.__main__ import main
from pouchrich.commands import configuring, doctor
from pouchrich.node.layout import PROGRAMS
from shim.installed.version import IN_USE

ACCEPTS = """#!/bin/sh
[ "$1 $2 $4" = "config show --any-owner" ] || exit 3
! grep -q later "$3" || { echo "pouchrich: $3: rich.later: found an unknown key" >&2; exit 1; }
"""
WORDS = [PROGRAMS[0], "-ISc", "import sys; print(flush=True); sys.stdin.read()", "-namespace", "k8s.io"]
ADVICE = f"{older.ADVICE}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Versions 1 and 2; the command is that of version 2."""
    for version in ("1", "2"):
        directory = tmp_path / "home" / version
        (directory / "bin").mkdir(parents=True)
        (directory / IN_USE).touch()
        (directory / "bin/pouchrich").write_text(ACCEPTS)
        (directory / "bin/pouchrich").chmod(0o755)
    monkeypatch.setattr(older.os, "geteuid", lambda: 0)
    asked = partial(older.refusals, directory=f"{tmp_path}/home/2")
    for module in (configuring, doctor, containerd_checks):
        monkeypatch.setattr(module.older, "refusals", asked)
    return tmp_path / "home"


@pytest.fixture
def pod(home: Path) -> Iterator[Callable[[str], None]]:
    """Begin what looks like a pod server of a version."""
    with ExitStack() as stack:

        def begin(version: str) -> None:
            held = stack.enter_context(open(home / version / IN_USE))
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            begun = subprocess.Popen(WORDS, executable=sys.executable, pass_fds=[held.fileno()], **pipes)
            server = stack.enter_context(begun)
            assert server.stdin is not None
            assert server.stdout is not None
            stack.callback(server.stdin.close)
            server.stdout.readline()  # the kernel shows a command line only some time after execve(2)

        yield begin


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('version = 1\nrich.env-exclude = ["later"]\n')
    return path


def config(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["config", *map(str, words), "--any-owner"])
    return status, *capsys.readouterr()


def test_check_warns_of_what_a_running_pods_version_refuses(home, pod, file, capsys):
    for _ in range(2):
        pod("1")
    pod("2")
    refused = f"version 1, from which 2 pods run, refuses it: {file}: rich.later: found an unknown key"
    assert config(capsys, "check", file) == (0, f"{file}: valid\n", f"pouchrich: warning: {refused}; {ADVICE}")
    found = json.loads(config(capsys, "check", file, "--json")[1])
    reason = f"{file}: rich.later: found an unknown key"
    assert (found["valid"], found["refused_by"]) == (True, [{"version": "1", "pods": 2, "reason": reason}])


def test_a_version_from_which_nothing_runs_is_not_asked(home, pod, file, capsys):
    pod("2")
    assert config(capsys, "check", file) == (0, f"{file}: valid\n", "")


def test_what_a_running_pods_version_accepts_is_set_and_nothing_else(home, pod, file, capsys):
    file.write_text("version = 1\n")
    pod("1")
    assert config(capsys, "set-default", "rich.strict", "true", "--file", file)[0] == 0
    before = file.read_text()
    status, out, err = config(capsys, "set-default", "rich.env-exclude", '["later"]', "--file", file)
    assert (status, out, file.read_text(), sorted(os.listdir(file.parent))) == (
        1,
        "",
        before,
        ["config.toml", "home"],
    )
    assert err == (
        f"pouchrich: version 1, from which 1 pod runs, refuses it: {file}: rich.later: found an unknown key; "
        "wait until these pods are gone, or change the file by hand\n"
    )


def test_doctor_warns_of_it_for_the_nodes_configuration_and_a_handlers(home, pod, file, tmp_path, monkeypatch):
    pod("1")
    handlers = tmp_path / "containerd.toml"
    handlers.write_text(
        '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.rich]\n'
        f'runtime_type = "io.containerd.pouchrich.v2"\noptions = {{ ConfigPath = "{file}" }}\n'
    )
    made = containerd_checks.config.load(str(file), require_root_owned=False)
    monkeypatch.setattr(containerd_checks.config, "for_handler", lambda **_: made)  # the file need not be root's
    found = doctor.collect(str(file), str(handlers), None, str(tmp_path), str(tmp_path), any_owner=True)
    warned = [(area, one) for area, one in found if "refuses it" in one.found]
    assert [(area, one.level, one.what) for area, one in warned] == [
        ("configuration", "warn", "node configuration"),
        ("containerd", "warn", "handler rich"),
    ]
    assert {one.advice for _, one in warned} == {older.ADVICE}
