"""pouchrich ps and inspect over a node made of files."""

import argparse
import json
import os
import shutil
from pathlib import Path

import pytest

from pouchrich.commands import inspecting, ps
from pouchrich.survey import Survey
from tests.unit.pouchrich.nodes import DUMB, SYSTEMD

POD = "/kubepods/pod1/abc"
V1 = ("memory", "cpuacct", "freezer")
AGENT = {"name": "watch", "state": "waiting", "pid": 0, "restarts": 3, "since": 1.0, "status": 1}


class Clock:
    """Time passes where `ps` sleeps, and what it looks at changes."""

    def __init__(self, change):
        self.now = 50.0
        self.change = change

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.change()


@pytest.fixture
def systemd(node):
    """A container with an init, an application of two processes, a service, an agent's unit and an exec."""
    cri = {
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.container-name": "app",
    }
    node.bundle("abc", SYSTEMD, annotations=cri, init=10, state={"version": 1, "init": 10, "application": 11})
    node.process(10, 5, "systemd", "/sbin/init", cgroup=f"{POD}/init.scope")
    node.process(11, 10, "sh", "/app.sh", "x\x1b[2J", cgroup=f"{POD}/system.slice/pouchrich-app.service", started=2000)
    node.process(12, 11, "java", "java", cgroup=f"{POD}/system.slice/pouchrich-app.service", started=2100)
    node.process(13, 10, "cron", "cron", "-f", cgroup=f"{POD}/system.slice/cron.service")
    node.process(14, 10, "beat", "beat", cgroup=f"{POD}/system.slice/pouchrich-agent-a\\x40b.service")
    node.process(15, 4, "bash", "bash", cgroup=POD, started=9000)
    node.usage(POD, cpu_usec=1_000_000, memory=30 << 20, inactive=10 << 20)

    def half_a_second_later():
        node.process(12, 11, "java", "java", cgroup=f"{POD}/system.slice/pouchrich-app.service", started=2100, ticks=25)
        node.usage(POD, cpu_usec=1_250_000, memory=30 << 20, inactive=10 << 20)

    return node, Clock(half_a_second_later)


def survey(node, clock):
    return Survey(proc=node.proc, clock=clock, tickets=str(node.top / "tickets"))


def parsed(verb, *words):
    parser = argparse.ArgumentParser()
    verb.add(parser)
    return parser.parse_args(words)


def run(capsys, node, clock, *words):
    assert ps.run(parsed(ps, *words), root=node.index, survey=survey(node, clock), sleep=clock.sleep) == 0
    return capsys.readouterr().out


def golden(name):
    """What was printed once, and read by a person."""
    return (Path(__file__).parent / "golden" / f"{name}.txt").read_text()


def test_a_container_is_a_tree_of_init_application_services_and_agents(capsys, systemd):
    assert run(capsys, *systemd, "--tree") == golden("systemd")


def test_json_holds_the_same(capsys, systemd):
    found = json.loads(run(capsys, *systemd, "--json"))
    (container,) = found["containers"]
    assert found["version"] == 1
    assert container["pod"] == {"namespace": "shop", "name": "web-0"}
    assert (container["mode"], container["init"], container["state"]) == ("systemd", "systemd", "running")
    assert (container["cpu_percent"], container["memory_bytes"], container["uptime_s"]) == (50.0, 20 << 20, 90.0)
    assert [part["role"] for part in container["parts"]] == ["init", "application", "service", "agent", "exec"]
    assert container["parts"][1] == {
        "role": "application",
        "name": "",
        "pid": 11,
        "processes": 2,
        "cpu_percent": 50.0,
        "memory_bytes": 2 << 20,
        "uptime_s": 80.0,
        "command": "/app.sh x\x1b[2J",
        "state": "running",
        "restarts": None,
    }


def test_time_of_children_counts_but_for_inits(capsys, node):
    node.bundle("one", DUMB, init=30)
    node.process(30, 5, "dumb-init", "dumb-init", cgroup="/one", children=100)
    node.process(31, 30, "app", "app", cgroup="/one", ticks=10, children=40)
    node.process(32, 31, "child", "child", cgroup="/one", ticks=5)

    def half_a_second_later():
        """The child has been waited for, and many others that came and went."""
        node.process(30, 5, "dumb-init", "dumb-init", cgroup="/one", children=900)
        node.process(31, 30, "app", "app", cgroup="/one", ticks=10, children=60)
        shutil.rmtree(f"{node.proc}/32")

    (container,) = json.loads(run(capsys, node, Clock(half_a_second_later), "--json"))["containers"]
    assert [part["cpu_percent"] for part in container["parts"]] == [0.0, 30.0]


def test_dumb_inits_first_child_is_the_application_and_supervised_agents_are_known(capsys, node):
    running = {**AGENT, "name": "beat", "state": "running", "pid": 33}
    node.bundle("one", DUMB, namespace="default", init=30, agents={"version": 1, "agents": [AGENT, running]})
    node.process(30, 5, "dumb-init", "dumb-init", cgroup="/one")
    node.process(32, 30, "orphan", "orphan", cgroup="/one", started=5000)
    node.process(31, 30, "app", "app", cgroup="/one", started=2000)
    node.process(33, 4, "beat", "beat", cgroup="/one-agent-beat")
    (node.top / "cgroup/one/cgroup.events").write_text("populated 1\nfrozen 1\n")
    assert run(capsys, node, Clock(lambda: None), "--tree") == golden("dumb-init")


def test_a_container_without_processes_is_stopped(capsys, node):
    node.bundle("one", DUMB, init=30)
    (container,) = json.loads(run(capsys, node, Clock(lambda: None), "--json"))["containers"]
    assert (container["state"], container["parts"], container["memory_bytes"]) == ("stopped", [], None)


def test_a_later_process_of_the_number_is_not_the_containers(capsys, node):
    """The pod server was killed, and the kernel gave the pid to another."""
    path = node.bundle("one", DUMB, init=30)
    (path / "config.json").write_text('{"linux": {"cgroupsPath": "kubepods.slice:cri-containerd:one"}}')
    node.process(30, 5, "sshd", "sshd", cgroup="/system.slice/sshd.service")
    (container,) = json.loads(run(capsys, node, Clock(lambda: None), "--json"))["containers"]
    assert container["state"] == "stopped"
    node.process(30, 5, "dumb-init", "dumb-init", cgroup="/kubepods.slice/cri-containerd-one.scope")
    (container,) = json.loads(run(capsys, node, Clock(lambda: None), "--json"))["containers"]
    assert container["state"] == "created"


def test_without_nsdelegate_another_containers_init_is_not_the_containers(capsys, node):
    path = node.bundle("one", DUMB, init=30)
    (path / "config.json").write_text('{"linux": {"cgroupsPath": "/pod/one/pouchrich"}}')
    for name, state in (("two", "stopped"), ("one", "created")):
        node.process(30, 5, "dumb-init", "dumb-init", cgroup=f"/pod/{name}/pouchrich")
        (container,) = json.loads(run(capsys, node, Clock(lambda: None), "--json"))["containers"]
        assert container["state"] == state


def test_a_node_without_containers_says_so(capsys, node):
    assert run(capsys, node, Clock(lambda: None)) == "no rich containers\n"


def test_watching_goes_on_until_interrupted_one_object_a_line(capsys, systemd):
    node, clock = systemd
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 4:
            raise KeyboardInterrupt
        clock.now += seconds

    given = parsed(ps, "--json", "--watch", "2")
    assert ps.run(given, root=node.index, survey=survey(node, clock), sleep=sleep) == 0
    assert slept == [ps.SAMPLE_S, 2.0, 2.0, 2.0]
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["version"] for line in lines] == [1, 1, 1]


def test_inspect_shows_plan_paths_and_hooks(capsys, systemd, tmp_path):
    node, clock = systemd
    hooks = {
        "version": 1,
        "hooks": [dict(stage="prestart", name="h", where="host", owner="node", result="exit status 3", seconds=0.2)],
    }
    (node.top / "state/k8s.io/abc/hooks.json").write_text(json.dumps(hooks))
    places = {
        "root": node.index,
        "records": str(tmp_path / "none"),
        "survey": survey(node, clock),
        "sleep": clock.sleep,
    }
    assert inspecting.run(parsed(inspecting, "ab"), **places) == 0
    text = capsys.readouterr().out
    assert text.startswith(golden("systemd"))
    assert "  mode = systemd  (/etc/c.toml: rich.mode)\n" in text
    assert "  STAGE     NAME  WHERE  OWNER  RESULT         TIME\n" in text
    assert "  prestart  h     host   node   exit status 3  0.2s\n" in text
    assert f"  cgroup: {node.top}/cgroup{POD}\n" in text
    inspecting.run(parsed(inspecting, "abc", "--json"), **places)
    found = json.loads(capsys.readouterr().out)
    assert found["decisions"][1] == {"key": "mode", "value": "systemd", "source": "/etc/c.toml: rich.mode"}
    assert found["hooks"] == hooks["hooks"]
    assert found["paths"]["run"] == "/run/pouchrich/containers/k8s.io/abc"
    assert found["runtime"] == {"path": "/usr/bin/crun", "root": "/run/pouchrich/runtime/k8s.io"}


@pytest.mark.parametrize(
    ("cgroups_path", "own", "init"),
    [
        ("/kubepods/pod1/abc", "/kubepods/pod1/abc", "/app"),
        ("/kubepods/pod1/abc", "/kubepods/pod1/abc", "/x/cri-abc.scope/init.scope"),
        ("/kubepods/pod1/abc/pouchrich", "/kubepods/pod1/abc/pouchrich", "/app"),
        ("/kubepods/pod1/abc", "/kubepods/pod1/abc", "/pouchrich"),
        ("kubepods-pod1.slice:cri:abc", "/kubepods.slice/kubepods-pod1.slice/cri-abc.scope", "/container/app"),
        ("/kubepods.slice:cri:abc/pouchrich", "/kubepods.slice:cri:abc/pouchrich", "/app"),
    ],
)
def test_what_pid_1_leaves_for_a_cgroup_below_stays_counted(capsys, node, cgroups_path, own, init):
    path = node.bundle("abc", DUMB, init=30)
    (path / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": cgroups_path}}))
    node.process(30, 5, "dumb-init", "dumb-init", cgroup=own + init)
    node.process(31, 30, "app", "app", cgroup=f"{own}/beside")
    node.process(32, 5, "other", "other", cgroup=f"{os.path.dirname(own)}/abc-agent-x")
    node.usage(own, cpu_usec=1, memory=5 << 20)
    (container,) = json.loads(run(capsys, node, Clock(lambda: None), "--json"))["containers"]
    assert [part["pid"] for part in container["parts"]] == [30, 31]
    assert (container["state"], container["memory_bytes"]) == ("created", 5 << 20)
    (node.top / f"cgroup{own}{init}/cgroup.events").write_text("populated 1\nfrozen 1\n")  # as below a frozen cgroup
    (container,) = json.loads(run(capsys, node, Clock(lambda: None), "--json"))["containers"]
    assert container["state"] == "paused"


def test_on_v1_the_cgroup_of_each_controller_is_the_containers_own(capsys, node):
    path = node.bundle("abc", DUMB, init=30)
    (path / "config.json").write_text(json.dumps({"linux": {"cgroupsPath": "/pod1/abc"}}))
    top = node.top / "cgroup"
    lines = [f"{at} 20 0:{at} / {top}/{name} rw - cgroup cgroup rw,{name}\n" for at, name in enumerate(V1, 31)]
    (node.top / "proc/self/mountinfo").write_text("".join(lines))
    for pid, below in ((30, "app"), (31, "beside")):
        node.process(pid, 5 if pid == 30 else 30, "x", "x", cgroup=f"/memory/pod1/abc/{below}")
        (node.top / f"proc/{pid}/cgroup").write_text(
            "".join(f"{at}:{name}:/pod1/abc/{below}\n" for at, name in enumerate(V1, 3)) + "1:name=systemd:/\n0::/\n"
        )
    (top / "memory/pod1/abc/memory.usage_in_bytes").write_text(f"{5 << 20}\n")
    (container,) = json.loads(run(capsys, node, Clock(lambda: None), "--json"))["containers"]
    assert [part["pid"] for part in container["parts"]] == [30, 31]
    assert container["memory_bytes"] == 5 << 20
