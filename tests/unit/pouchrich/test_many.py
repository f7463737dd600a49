"""pouchrich ps and top of a node with many containers: captures at the usual widths, what they cost and lead to."""

import argparse
import io
import json
import re
import time
from pathlib import Path

import pytest

from pouchrich import containers
from pouchrich.__main__ import main
from pouchrich.commands import ps, top
from pouchrich.output import cells
from pouchrich.survey import Survey
from tests.unit.pouchrich.nodes import DUMB, SYSTEMD, machine

GOLDEN = Path(__file__).parent / "golden"
PODS = (
    ("kube-system", "node-agent-7xk2p", "agent", "registry.example/platform/node-agent:1.4.2"),
    ("payments-production", "ledger-reconciliation-worker-5d9c8b7f6d-x2x9q", "reconciler", "registry.example/ledger:7"),
    ("shop", "web-0", "app", "registry.example/shop/web:2026.11"),
    ("shop", "web-1", "app", "registry.example/shop/web:2026.11"),
    ("legacy", "mainframe-bridge-0", "bridge", "registry.example/legacy/bridge:el7"),
    ("ci", "runner-amd64-0004", "runner", "registry.example/ci/runner:12"),
)


def parsed(verb, *words):
    parser = argparse.ArgumentParser()
    verb.add(parser)
    return parser.parse_args(words)


def thirty(node):
    """Thirty containers: of six kinds of pod, some of them waiting, paused, ended, restarted or without an agent."""
    for number in range(30):
        namespace, pod, name, image = PODS[number % len(PODS)]
        pod = pod if number < len(PODS) else f"{pod[:-1]}{number:02}"
        container_id = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4
        cri = {
            "io.kubernetes.cri.sandbox-name": pod,
            "io.kubernetes.cri.sandbox-namespace": namespace,
            "io.kubernetes.cri.container-name": name,
            "io.kubernetes.cri.image-name": image,
        }
        pid, group = 1000 + 10 * number, f"/kubepods/{container_id}"
        state = {"init": pid, "application": pid + 1, "restarts": 3 if number == 4 else 0}
        notes = {} if number == 9 else {"state": state}
        if number == 13:
            agent = {"name": "audit", "state": "waiting", "pid": 0, "restarts": 12, "since": 1.0, "status": 127}
            notes["agents"] = {"agents": [agent]}
        node.bundle(container_id, DUMB if number % 3 else SYSTEMD, annotations=cri, init=pid, **notes)
        if number == 17:
            continue
        init = "dumb-init" if number % 3 else "systemd"
        node.process(pid, 5, init, f"/run/pouchrich/{init}", cgroup=group, started=1000 + 50 * number)
        node.process(pid + 1, pid, "app", "/usr/bin/app", f"--serve={number}", "--verbose", cgroup=group, ticks=number)
        node.usage(group, cpu_usec=1000 * number, memory=(30 + 7 * number) << 20)
        if number == 21:
            (node.top / "cgroup" / group[1:] / "cgroup.events").write_text("frozen 1\n")
    ctr = node.bundle("debug", DUMB, namespace="default", init=4000, state={"init": 4000})
    node.process(4000, 5, "dumb-init", "dumb-init", cgroup="/default/debug")
    assert ctr.name == "debug"
    return node


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A node of them, made once: for who only looks."""
    return thirty(machine(tmp_path_factory.mktemp("node")))


def printed(capsys, node, *words):
    survey = Survey(proc=node.proc, tickets=str(node.top / "tickets"))
    assert ps.run(parsed(ps, *words), root=node.index, survey=survey, sleep=lambda _: None) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_capture_of_many_containers(capsys, many, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    found = printed(capsys, many)
    assert found == (GOLDEN / f"ps-{width}.txt").read_text()
    assert all(cells(line) <= width for line in found.splitlines())
    heads = [line.split()[0] for line in found.splitlines() if not line.startswith(" ")]
    assert (heads[0], len(heads)) == ("ID", 32)


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_capture_of_trees(capsys, many, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    found = printed(capsys, many, "--tree", "--filter", "namespace=shop", "--filter", "pod=web-*[01]")
    assert found == (GOLDEN / f"tree-{width}.txt").read_text()
    assert all(cells(line) <= width for line in found.splitlines())


def test_a_terminal_has_the_same_lines_and_nothing_is_folded(capsys, many, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    survey = Survey(proc=many.proc, tickets=str(many.top / "tickets"))
    ps.run(parsed(ps), root=many.index, survey=survey, sleep=lambda _: None)
    bare = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()]
    assert "\n".join(bare) + "\n" == (GOLDEN / "ps-80.txt").read_text()


def test_what_is_shown_is_what_other_commands_take(capsys, many, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = [line for line in printed(capsys, many).splitlines()[1:] if not line.startswith(" ")]
    ids = printed(capsys, many, "-q").split()
    assert len(shown) == len(ids) == 31
    for line, whole in zip(shown, ids, strict=True):
        assert containers.one(line.split()[0], root=many.index).id == whole
    for one in containers.every(root=many.index):
        assert containers.one(one.label, root=many.index).id == one.id
    assert containers.one("payments-production/ledger-reconciliation-worker-5d9c8b7f6d-x2x9q/", root=many.index)
    assert containers.one("web-1/app", root=many.index).label == "shop/web-1/app"


def test_ids_are_as_long_as_tells_them_apart():
    ids = ["0123456789abcdef00", "0123456789abcdef11", "f" * 64, "web"]
    assert list(containers.short_ids(ids).values()) == ["0123456789abcdef0", "0123456789abcdef1", "f" * 12, "web"]


def test_filters_choose_by_glob_any_of_one_key_and_all_of_several(capsys, many):
    def chosen(*filters):
        words = [word for one in filters for word in ("--filter", one)]
        return [one["name"] for one in json.loads(printed(capsys, many, "--json", *words))["containers"]]

    assert set(chosen("namespace=shop")) == {"app"}
    assert set(chosen("namespace=shop", "namespace=ci")) == {"app", "runner"}
    assert chosen("namespace=shop", "container=runner") == []
    assert chosen("state=paused") == ["app"]
    assert len(chosen("mode=systemd")) == 10
    assert set(chosen("namespace!=shop", "namespace!=ci", "pod!=")).isdisjoint({"app", "runner", "debug"})
    assert chosen("namespace=ci", "pod!=*") == []
    assert len(chosen("state!=paused")) == len(chosen()) - 1
    assert chosen("id=debug") == chosen("pod=") == ["debug"]


def test_a_filter_that_is_none_is_named_with_what_was_meant(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["ps", "--filter", "nmespace=shop"])
    assert caught.value.code == 2
    assert "found 'nmespace=shop', allowed KEY=VALUE and KEY!=VALUE with KEY one of" in (err := capsys.readouterr().err)
    assert "(did you mean namespace)" in err


def test_json_has_restarts_and_what_is_wrong(capsys, many):
    found = json.loads(printed(capsys, many, "--json"))["containers"]
    assert [one["problems"] for one in found if one["problems"]] == [
        ["init restarted the application 3 times"],
        ["agent audit does not run: waiting, exit status 127, 12 restarts"],
    ]
    assert sum(one["restarts"] for one in found) == 3


def test_top_has_the_busiest_first(capsys, node):
    many = thirty(node)
    times = iter(range(100))
    survey = Survey(proc=many.proc, clock=lambda: float(next(times)), tickets=str(many.top / "tickets"))
    busy = containers.one("shop/web-1/app", root=many.index)

    def sleep(_):
        many.usage(f"/kubepods/{busy.id}", cpu_usec=500_000, memory=51 << 20)

    words = parsed(top, "--count", "1")
    assert top.run(words, root=many.index, survey=survey, sleep=sleep) == 0
    about, head, first, *_ = capsys.readouterr().out.splitlines()
    assert about.startswith("31 rich containers, ")
    assert head.split()[:3] == ["ID", "NAMESPACE/POD/CONTAINER", "CPU%"]
    assert first.split()[1:3] == ["shop/web-1/app", "49.7"]


def test_a_look_costs_two_milliseconds_a_container_at_most(capsys, many):
    """Of processor time, also of a machine that is slow: with the interpreter warm, the best of some."""
    best = min(_cost_s(capsys, many) for _ in range(5))
    assert best / 31 < 0.002, f"{1000 * best / 31:.2f} ms a container"


def _cost_s(capsys, node):
    began = time.process_time()
    printed(capsys, node)
    return time.process_time() - began


def test_no_program_is_run(capsys, many, monkeypatch):
    def never(*words, **_):
        raise AssertionError(words)

    for name in ("subprocess.Popen", "os.posix_spawn", "os.fork"):
        monkeypatch.setattr(name, never)
    printed(capsys, many, "--json")
