"""Agents changed in containers that run, by `pouchrich agent`: no pod is restarted."""

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration import configuration
from tests.integration.pods import OWN_PID_NAMESPACES, RUNNING, Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import HANDLER, RichPods, configure
from tests.integration.test_rich_application import FOREVER, in_one_place, running
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
each_mode = pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
NAMES = ("one", "two", "three")


@dataclass
class Answer:
    status: int
    outcomes: dict[str, str]
    reasons: dict[str, str]


class Fleet:
    """A pod with three containers, each with the node's agent."""

    def __init__(self, rich_pods: RichPods, mode: str) -> None:
        self._rich_pods = rich_pods
        self._mode = mode
        self.program = rich_pods.node.base / "agent"
        self.program.mkdir(exist_ok=True)
        for path in (rich_pods.node.base, self.program):
            path.chmod(0o755)
        self.write(1)
        self.configure("1")
        pod = rich_pods.pods.run(handler=HANDLER, namespaces=OWN_PID_NAMESPACES)
        self.containers = {
            name: running(rich_pods.create(pod, SYSTEMD, "sh", "-c", FOREVER, name=name).start()) for name in NAMES
        }
        self._began = {name: self._life(name) for name in NAMES}
        until(lambda: self.versions() == ["1"] * 3, "the agents to start")

    def write(self, number: int) -> None:
        """The program in the directory that is mounted: it says which it is by what it becomes."""
        new = self.program / ".new"
        new.write_text(f'#!/bin/sh\necho "program {number}, as $AS" >>/tmp/said\nexec sleep 7777$AS\n')
        new.chmod(0o755)
        new.rename(self.program / "watch")

    def configure(self, number: str, *, more: str = "", target: str = "/opt/agent") -> None:
        agent = (
            f'[[agents]]\nname = "watcher"\ncommand = ["/opt/agent/watch"]\nenv = {{ AS = "{number}" }}\n{more}\n'
            f'mounts = [{{ source = "{self.program}", target = "{target}" }}]\n'
        )
        configure(self._rich_pods.node, f'mode = "{self._mode}"\n', agent)

    def agent(self, verb: str, *words: str) -> Answer:
        program = Path(os.environ["POUCHRICH_PREFIX"], "bin/pouchrich")
        (pod,) = {one.pod.id for one in self.containers.values()}
        argv = [program, "agent", verb, "watcher", "--json", *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)["agents"]
        names = {container.id: name for name, container in self.containers.items()}
        ours = [row for row in rows if row["id"] in names]
        assert len(ours) == 3, (pod, rows)
        return Answer(
            done.returncode,
            {names[row["id"]]: row["outcome"] for row in ours},
            {names[row["id"]]: row["reason"] for row in ours},
        )

    def versions(self) -> list[str]:
        """Which agents run, in all three, by what they have become; more than one of a container would be told."""
        found = []
        for container in self.containers.values():
            lines = container.exec("ps", "-eo", "args").stdout.decode().splitlines()
            found += [line.removeprefix("sleep 7777") for line in lines if line.startswith("sleep 7777")]
        return sorted(found)

    def _life(self, name: str) -> tuple[int, int]:
        container = self.containers[name]
        return container.pid(), container.status().metadata.attempt

    def require_no_restart(self) -> None:
        """Each pod's init is the one that it began with, and its application has not ended."""
        assert {name: self._life(name) for name in NAMES} == self._began
        for container in self.containers.values():
            assert container.status().state == RUNNING
            assert container.output().count(b"ready") <= 1


@each_mode
def test_an_upgrade_goes_through_its_canary_to_all_and_back_with_no_pod_restarted(
    rich_pods: RichPods, mode: str
) -> None:
    fleet = Fleet(rich_pods, mode)
    assert set(fleet.agent("status").outcomes.values()) == {"current"}
    fleet.configure("2")
    assert set(fleet.agent("status").outcomes.values()) == {"differs"}

    answer = fleet.agent("upgrade", "--canary", "1", "--settle", "0.2")
    assert sorted(answer.outcomes.values()) == ["left", "left", "upgraded"]
    assert (answer.status, fleet.versions()) == (0, ["1", "1", "2"])

    answer = fleet.agent("upgrade", "--settle", "0.2")
    assert sorted(answer.outcomes.values()) == ["current", "upgraded", "upgraded"]
    assert (answer.status, fleet.versions()) == (0, ["2", "2", "2"])

    answer = fleet.agent("back-out", "--settle", "0.2")
    assert set(answer.outcomes.values()) == {"backed-out"}
    assert (answer.status, fleet.versions()) == (0, ["1", "1", "1"])
    assert set(fleet.agent("back-out").outcomes.values()) == {"refused"}
    fleet.require_no_restart()


@each_mode
def test_an_upgrade_that_does_not_run_is_taken_back_and_goes_no_further(rich_pods: RichPods, mode: str) -> None:
    fleet = Fleet(rich_pods, mode)
    fleet.configure("x")  # sleep: invalid time interval
    answer = fleet.agent("upgrade", "--settle", "0.5")
    assert (answer.status, sorted(answer.outcomes.values())) == (1, ["failed", "left", "left"])
    (reason,) = (answer.reasons[name] for name, outcome in answer.outcomes.items() if outcome == "failed")
    assert "the one before runs again" in reason
    until(lambda: fleet.versions() == ["1"] * 3, "the one before")
    assert set(fleet.agent("status").outcomes.values()) == {"differs"}
    fleet.require_no_restart()


@each_mode
def test_a_pod_whose_agent_fails_holds_up_no_other(rich_pods: RichPods, mode: str) -> None:
    fleet = Fleet(rich_pods, mode)
    fleet.configure("2")
    first = next(iter(fleet.agent("status").outcomes))
    fleet.containers[first].shell('mv "$(command -v sleep)" /moved')  # by the pod's root: the agent cannot run
    assert fleet.agent("upgrade", "--settle", "0.5").outcomes[first] == "failed"
    answer = fleet.agent("upgrade", "--settle", "0.5", "--max-failed", "1")
    assert (answer.status, answer.outcomes.pop(first), set(answer.outcomes.values())) == (1, "failed", {"upgraded"})
    assert fleet.versions() == ["2", "2"]
    fleet.require_no_restart()


@each_mode
def test_a_restart_runs_what_is_by_now_in_a_mounted_directory(rich_pods: RichPods, mode: str) -> None:
    fleet = Fleet(rich_pods, mode)
    fleet.write(2)
    answer = fleet.agent("restart", "--settle", "0.1")
    assert (answer.status, set(answer.outcomes.values())) == (0, {"restarted"})
    for container in fleet.containers.values():
        assert container.shell("cat /tmp/said").splitlines() == ["program 1, as 1", "program 2, as 1"]
    assert fleet.versions() == ["1"] * 3
    fleet.require_no_restart()


def test_what_only_a_new_container_can_have_is_refused_and_nothing_is_changed(rich_pods: RichPods) -> None:
    fleet = Fleet(rich_pods, "dumb-init")
    cases = {
        "agents[0].mounts: changed since the container's Create": lambda: fleet.configure("2", target="/opt/other"),
        "agents[0].mandatory: changed since the container's Create": lambda: fleet.configure(
            "2", more="mandatory = true"
        ),
        "agents: watcher is not there any more": lambda: configure(rich_pods.node, 'mode = "dumb-init"\n'),
        "permissions: found 0666": lambda: fleet.configure("2"),
        "replaced since the container was made": lambda: fleet.configure("2"),
    }
    file = Path(f"/proc/{rich_pods.node.pid}/root{configuration.TEST_FILE}")
    for reason, change in cases.items():
        change()
        file.chmod(0o666 if "0666" in reason else 0o644)
        if "replaced" in reason:
            fleet.program.rename(fleet.program.with_name("agent.old"))
            fleet.program.mkdir(mode=0o755)
            fleet.write(2)
        answer = fleet.agent("upgrade", "--settle", "0")
        assert set(answer.outcomes.values()) == {"refused"}, reason
        assert all(reason in one for one in answer.reasons.values()), answer.reasons
        assert answer.status == 1
    assert fleet.versions() == ["1"] * 3
    fleet.require_no_restart()


def test_a_frozen_container_is_left_and_one_whose_pod_server_is_killed_does_not_hold_up_the_rest(
    rich_pods: RichPods,
) -> None:
    fleet = Fleet(rich_pods, "dumb-init")
    fleet.configure("2")
    frozen: Container = fleet.containers["two"]
    rich_pods.node.ctr("-n", "k8s.io", "tasks", "pause", frozen.id)
    answer = fleet.agent("upgrade", "--settle", "0")
    assert answer.status == 1
    assert answer.outcomes == {"one": "upgraded", "two": "refused", "three": "upgraded"}
    assert "paused" in answer.reasons["two"]
    rich_pods.node.ctr("-n", "k8s.io", "tasks", "resume", frozen.id)
    assert fleet.agent("upgrade", "--settle", "0").outcomes["two"] == "upgraded"
    assert fleet.versions() == ["2"] * 3
    fleet.require_no_restart()


def test_a_rollout_that_is_interrupted_is_gone_on_with(rich_pods: RichPods) -> None:
    fleet = Fleet(rich_pods, "dumb-init")
    fleet.configure("2")
    program = Path(os.environ["POUCHRICH_PREFIX"], "bin/pouchrich")
    rolling = subprocess.Popen([program, "agent", "upgrade", "watcher", "--settle", "1"], stdout=subprocess.DEVNULL)
    until(lambda: "2" in fleet.versions(), "the first one")
    rolling.send_signal(signal.SIGKILL)
    rolling.wait()
    until(lambda: fleet.agent("status").outcomes["one"] == "current" or "2" in fleet.versions(), "its end")
    until(lambda: fleet.agent("upgrade", "--settle", "0").status == 0, "what was begun to end")
    assert fleet.versions() == ["2"] * 3
    fleet.require_no_restart()
