"""pouchrich metrics: what Prometheus is given, and that nothing of a pod's own is in it."""

import argparse
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pouchrich import facts
from pouchrich.commands import metrics
from pouchrich.commands.metrics import NodeCollector, listen_address
from pouchrich.facts import Facts
from runtime import measured
from runtime.measured import SECONDS
from tests.unit.pouchrich.nodes import DUMB, SYSTEMD

ROOT = Path(__file__).parents[3]
NOW = Facts(Counter({("systemd", "running"): 3, ("dumb-init", "created"): 1}), 2, 1, Counter(owed=2), 4, 9 << 20, 1, 0)


@pytest.fixture
def collector(tmp_path):
    root = str(tmp_path / "metrics")
    for seconds in (0.3, 2.0, 400.0):
        measured.add("boot_seconds", {"mode": "systemd", "outcome": "ok"}, seconds, bounds=SECONDS, root=root)
    hook = {"stage": "poststop", "where": "host", "owner": "node", "outcome": "timeout"}
    measured.add("hook_seconds", hook, 30.0, bounds=SECONDS, root=root)
    measured.add("refusals", {"stage": "create", "reason": "annotation"}, 5.0, root=root)
    measured.add("refusals", {"stage": "create", "kind": "other-version"}, 5.0, root=root)
    measured.add("restarts_in_place", {}, 2.0, root=root)
    return NodeCollector(lambda: NOW, root=root)


def run(capsys, collector, *words):
    parser = argparse.ArgumentParser()
    metrics.add(parser)
    assert metrics.run(parser.parse_args(words), collector=collector) == 0
    return capsys.readouterr().out


def samples(families):
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_what_is_printed_is_openmetrics(capsys, collector):
    text = run(capsys, collector)
    assert text.endswith("# EOF\n")
    found = samples(parse_openmetrics(text))
    assert found["pouchrich_containers", ("mode", "systemd"), ("state", "running")] == 3
    boots = (("mode", "systemd"), ("outcome", "ok"))
    bucket = "pouchrich_boot_seconds_bucket"
    assert found[bucket, ("le", "0.5"), *boots] == 1
    assert found[bucket, ("le", "300.0"), *boots] == 2
    assert found[bucket, ("le", "+Inf"), *boots] == found["pouchrich_boot_seconds_count", *boots] == 3
    assert found["pouchrich_boot_seconds_sum", *boots] == pytest.approx(402.3)
    assert found["pouchrich_refusals_total", ("reason", "annotation"), ("stage", "create")] == 5
    assert found["pouchrich_refusals_total", ("reason", "hook"), ("stage", "start")] == 0
    assert not [one for one in found if one[0] == "pouchrich_refusals_total" and ("kind", "other-version") in one]
    assert found["pouchrich_restarts_in_place_total",] == 2
    assert found["pouchrich_agent_restarts_total",] == 0
    assert found["pouchrich_pod_servers_memory_bytes",] == 9 << 20


def test_what_has_not_happened_yet_is_there_as_0(capsys, tmp_path):
    """Prometheus sees no increase in a series that begins with 1."""
    text = run(capsys, NodeCollector(lambda: NOW, root=str(tmp_path / "none")))
    found = samples(parse_openmetrics(text))
    counters = [one for one in found if one[0].endswith(("_total", "_count", "_bucket", "_sum"))]
    assert {found[one] for one in counters} == {0}
    assert ("pouchrich_hooks_skipped_total", ("owner", "node"), ("where", "container")) in counters
    interrupted = (("outcome", "interrupted"), ("owner", "pod"), ("stage", "poststop"), ("where", "container"))
    assert ("pouchrich_hook_seconds_count", *interrupted) in counters
    assert {name for name, *_ in counters if name.endswith("_total")} == {
        f"pouchrich_{name}_total" for name in metrics._HELP if not name.endswith("_seconds")
    }
    assert len(found) < 1000


def test_node_exporter_gets_a_whole_file_in_its_own_format(capsys, collector, tmp_path):
    file = tmp_path / "collector/pouchrich.prom"
    file.parent.mkdir()
    run(capsys, collector, "--textfile", str(file))
    found = samples(parse_text(file.read_text()))
    assert found["pouchrich_owed_hooks", ("state", "owed")] == 2
    assert file.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in file.parent.iterdir()] == ["pouchrich.prom"]


def test_json_holds_the_same(capsys, collector):
    found = json.loads(run(capsys, collector, "--json"))
    assert found["version"] == 1
    assert {"name": "pouchrich_spawners", "labels": {}, "value": 1} in found["samples"]


@pytest.mark.parametrize(
    ("text", "address"),
    [("9787", ("127.0.0.1", 9787)), ("127.0.0.2:0", ("127.0.0.2", 0)), ("[::1]:99", ("::1", 99))],
)
def test_where_to_listen_is_a_loopback_address(text, address):
    assert listen_address(text) == address


@pytest.mark.parametrize("text", ["0.0.0.0:9787", "10.0.0.1:80", "[::]:80", "localhost:80", "x", "70000", ""])
def test_anywhere_else_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="allowed PORT or a loopback"):
        listen_address(text)


def test_the_node_is_looked_at(node, tmp_path):
    node.bundle("abc", SYSTEMD, init=10, state={"init": 10, "application": 11, "restarts": 1})
    node.bundle("def", DUMB, init=20)
    node.process(10, 5, "systemd", "/sbin/init", cgroup="/a")
    node.process(7, 1, "pouchrich", "containerd-shim-pouchrich-v2", "-namespace", "k8s.io", cgroup="/s")
    (node.top / "proc/7/smaps_rollup").write_text("Rss:  900 kB\nPss:  300 kB\n")
    node.process(8, 1, "pouchrich", "pouchrich-spawner", cgroup="/s")
    for pid, words in ((11, ("containerd-shim-pouchrich-v2", "-namespace")), (12, ("pouchrich-spawner",))):
        node.process(pid, 10, "hostile", *words, cgroup="/a")
        (node.top / f"proc/{pid}/root").unlink()
        (node.top / f"proc/{pid}/root").symlink_to(tmp_path)
        (node.top / f"proc/{pid}/cmdline").unlink()
        os.mkfifo(node.top / f"proc/{pid}/cmdline")  # while a process forks, nobody can read its command line
    spawners = tmp_path / "spawners"
    spawners.mkdir()
    (spawners / "spawner-1.lock").write_text("8 x")
    (spawners / "spawner-2.lock").write_text("99 x")
    found = facts.collect(root=node.index, records=str(tmp_path / "none"), spawners=str(spawners), proc=node.proc)
    assert found == Facts(
        Counter({("systemd", "running"): 1, ("dumb-init", "stopped"): 1}), 1, 0, Counter(), 1, 300 << 10, 1, 1
    )


def test_the_dashboard_asks_for_what_there_is(capsys, collector):
    names = {name for name, *_ in samples(parse_openmetrics(run(capsys, collector)))} | {
        f"pouchrich_{name}{end}"
        for name in metrics._HELP
        for end in (("_bucket", "_count", "_sum") if name.endswith("_seconds") else ("_total",))
    }
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    asked = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"pouchrich_\w+", target["expr"]))
            assert len(re.findall(r"[({]", target["expr"])) == len(re.findall(r"[)}]", target["expr"]))
    assert asked <= names
    assert len(asked) > 12
    listed = set(re.findall(r"pouchrich_\w+", (ROOT / "docs/operations.md").read_text()))
    stems = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} - {"pouchrich_version_info"}
    assert stems == listed
