"""Agents that are units: whether one that does not run is a problem, and where their output is."""

import argparse
import fcntl
import json
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pouchrich import checks, containers, unit_agents
from pouchrich.commands import logs
from pouchrich.survey import Survey
from runtime import rundir
from runtime.agents import unit
from runtime.bundle import to_json
from runtime.bundle_log import BundleLog
from runtime.init.boot import RunFile
from tests.unit.agents.making import selected
from tests.unit.pouchrich.nodes import SYSTEMD

CRI = {
    "io.kubernetes.cri.sandbox-name": "web-0",
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.container-name": "app",
}
JOURNAL = "journalctl -u pouchrich-agent-beat.service"
IN_POD = f"kubectl exec -n shop web-0 -c app -- {JOURNAL}"


def plan(restart):
    """A plan with the agent's unit as `runtime.rich.extras` adds it."""
    text = unit.text(selected(name="beat", restart=restart), source="c")
    boot = SYSTEMD.boot
    assert boot is not None
    files = (*boot.files, RunFile(unit.unit_name("beat"), text))
    return replace(SYSTEMD, boot=replace(boot, files=files))


@pytest.fixture
def made(node):
    """Makes a container that runs and whose agent does not; `agents` are what the shim notes of supervised ones."""

    def make(restart, *, annotations=CRI, taken_by="", agents=()):
        state = {"version": 1, "init": 10, "application": 11, "unit_agents": {"beat": taken_by}}
        noted = {"version": 1, "agents": list(agents)}
        node.bundle("abc", plan(restart), annotations=annotations, init=10, state=state, agents=noted)
        node.process(10, 5, "systemd", "/sbin/init", cgroup="/a/abc")
        return node

    return make


def problems(node):
    (seen,) = Survey(proc=node.proc).look(containers.every(root=node.index))
    return list(seen.problems)


@pytest.mark.parametrize(
    ("restart", "expected"),
    [("always", ["agent beat does not run: not running"]), ("on-failure", []), ("no", [])],
)
def test_an_agent_that_may_have_ended_as_it_should_is_no_problem(made, restart, expected):
    assert problems(made(restart)) == expected


def test_so_it_is_by_the_unit_that_an_upgrade_has_changed(made, tmp_path, monkeypatch):
    directory = tmp_path / "containers/k8s.io/abc"
    directory.mkdir(parents=True)
    monkeypatch.setattr(rundir, "path_of", lambda namespace, container_id: f"{tmp_path}/containers/k8s.io/abc")
    (directory / unit.unit_name("beat")).write_text(unit.text(selected(name="beat", restart="no"), source="c"))
    assert problems(made("always")) == []


def test_an_agent_whose_unit_is_the_images_is_one_however_it_is_restarted(made):
    said = ["agent beat does not run: its unit is /etc/systemd/system/pouchrich-agent-beat.service"]
    assert problems(made("no", taken_by="/etc/systemd/system/pouchrich-agent-beat.service")) == said


@pytest.mark.parametrize(
    ("annotations", "advice"),
    [(CRI, f"{IN_POD} shows its output"), ({}, f"{JOURNAL} in the container shows its output")],
)
def test_doctor_says_where_the_output_is(made, monkeypatch, annotations, advice):
    watch = {"name": "watch", "state": "waiting", "pid": 0, "restarts": 3, "since": 1.0, "status": 1}
    node = made("always", annotations=annotations, agents=[watch])
    monkeypatch.setattr(checks, "Survey", lambda: Survey(proc=node.proc))
    found = {one.found: one.advice for one in checks.containers(node.index)}
    assert found["agent beat does not run: not running"] == advice
    said = "agent watch does not run: waiting, exit status 1, 3 restarts"
    assert found[said] == "pouchrich logs abc shows its output"


def test_logs_of_agents_says_where_that_of_units_is(capsys, made):
    node = made("always")
    BundleLog(f"{node.top}/state/k8s.io/abc").write("agent", "watch", ["hello"])
    parser = argparse.ArgumentParser()
    logs.add(parser)
    for words, said in (
        (["--agents"], f"pouchrich: agent beat is a unit: {IN_POD} shows its output\n"),
        (["--boot"], ""),
        ([], ""),
    ):
        assert logs.run(parser.parse_args(["abc", *words]), root=node.index) == 0
        printed = capsys.readouterr()
        assert printed.err == said
        assert ("agent watch: hello\n" in printed.out) == (words != ["--boot"])


@pytest.mark.parametrize("made_of", [{"boot": None}, {}, {"boot": {"files": [{}, "x"]}}, {"boot": {"files": None}}])
def test_a_record_without_the_unit_counts_as_always(made_of):
    assert unit_agents.restart_of(SimpleNamespace(namespace="ns", id="c", made=made_of), "beat") == "always"


def test_a_lease_that_the_container_has_on_the_unit_makes_nobody_wait(tmp_path, monkeypatch):
    """It would be asked for by SIGIO, and may be kept for /proc/sys/fs/lease-break-time, 45 seconds."""
    container = SimpleNamespace(namespace="ns", id="c", made=json.loads(to_json(plan("no").as_object())))
    monkeypatch.setattr(rundir, "path_of", lambda namespace, container_id: str(tmp_path))
    file = tmp_path / unit.unit_name("beat")
    file.write_text("[Service]\nRestart=on-failure\n")
    assert unit_agents.restart_of(container, "beat") == "on-failure"
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with file.open("r+") as held:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            began = time.monotonic()
            assert unit_agents.restart_of(container, "beat") == "no"
            assert time.monotonic() - began < 20
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        signal.signal(signal.SIGIO, before)
