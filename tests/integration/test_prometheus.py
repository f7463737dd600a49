"""The metrics of a node by a real Prometheus, and each panel of the Grafana dashboard asked of it.

Prometheus is Debian's, found in PATH or named by POUCHRICH_PROMETHEUS. With POUCHRICH_DASHBOARD=FILE what it answered
is written there, from which hack/draw-dashboard.py draws docs/grafana-dashboard.png.
"""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.integration import binaries, processes
from tests.integration.images import BUSYBOX
from tests.integration.node import ROOT, Node
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import FOREVER, in_one_place, running
from tests.integration.test_rich_hooks import hook
from tests.integration.test_rich_systemd import SYSTEMD, failed_start
from tests.integration.waiting import until

DASHBOARD = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
INTERVAL_S = 1
ROUNDS = 6
WINDOW = "20s"
"""What Grafana makes of $__rate_interval: some scrapes."""

EMPTY = {"Owed poststop hooks", "Spawners"}
"""Panels that may have nothing to show of a node on which nothing goes wrong."""

pytestmark = [
    pytest.mark.only(runtime="pouchrich"),
    in_one_place,
    pytest.mark.full,
    pytest.mark.timeout(600),
]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class Prometheus:
    """One that scrapes a node's `pouchrich metrics --listen` each second."""

    def __init__(self, node: Node, program: str) -> None:
        metrics, own = free_port(), free_port()
        scrape = {"job_name": "pouchrich", "static_configs": [{"targets": [f"127.0.0.1:{metrics}"]}]}
        config = node.base / "prometheus.json"  # JSON is YAML
        every = f"{INTERVAL_S}s"
        config.write_text(json.dumps({"global": {"scrape_interval": every}, "scrape_configs": [scrape]}))
        self._api = f"http://127.0.0.1:{own}/api/v1/"
        pouchrich = str(binaries.prefix() / "bin/pouchrich")
        store = f"--storage.tsdb.path={node.base}/prometheus"
        words = [program, f"--config.file={config}", store, f"--web.listen-address=127.0.0.1:{own}"]
        self._pids = [
            node.spawn([pouchrich, "metrics", "--listen", str(metrics)], node.base / "metrics.log"),
            node.spawn(words, node.base / "prometheus.log"),
        ]
        until(self._scrapes, "Prometheus to have scraped", timeout_s=60)

    def _scrapes(self) -> bool:
        try:
            return any(float(one["value"][1]) for one in self.ask("query", query="up"))
        except URLError:
            return False

    def close(self) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGTERM)
        until(lambda: not any(map(processes.alive, self._pids)), "Prometheus to end")

    def ask(self, what: str, **parameters: str | float) -> list[dict[str, Any]]:
        """The result of a query; what it refuses is an HTTPError."""
        with urlopen(f"{self._api}{what}?{urlencode(parameters)}", timeout=30) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        found: list[dict[str, Any]] = said["data"]["result"]
        return found


@pytest.fixture
def prometheus(rich_pods: RichPods) -> Iterator[Prometheus]:
    program = os.environ.get("POUCHRICH_PROMETHEUS") or shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus in PATH, nor in POUCHRICH_PROMETHEUS")
    found = Prometheus(rich_pods.node, program)
    yield found
    found.close()


def live(rich_pods: RichPods) -> None:
    """A node's work: both kinds of init, hooks, an agent, ends of all sorts, a refusal, a fallback, a restart."""
    hooks = hook("prestart", "container", "sleep 0.2") + hook("poststop", "host", "cat >/dev/null; sleep 0.1")
    agent = '[[agents]]\nname = "watcher"\ncommand = ["/bin/sleep", "2"]\n'
    for number in range(ROUNDS):
        kept = running(rich_pods.run(SYSTEMD, "sh", "-c", f"trap 'exit 3' TERM; {FOREVER}", more=hooks + agent))
        for code in (0, number):
            short = rich_pods.create(rich_pods.pod("dumb-init", more=hooks), SYSTEMD, "sh", "-c", f"exit {code}")
            assert short.start().wait().exit_code == code
        refused = rich_pods.pod("dumb-init", annotations={"pouchrich.io/mode": "sytemd"})
        failed_start(rich_pods.create(refused, SYSTEMD, "true"))
        fallback = rich_pods.pod("auto")
        rich_pods.create(fallback, BUSYBOX, "true").start().wait()
        kept.stop(grace_s=20)
        assert kept.status().exit_code == 3


def test_each_panel_of_the_dashboard_has_an_answer(rich_pods: RichPods, prometheus: Prometheus) -> None:
    began = time.time()
    live(rich_pods)
    answers = {}
    for panel in DASHBOARD["panels"]:
        found = []
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", WINDOW).replace("$instance", ".*")
            series = prometheus.ask("query_range", query=expression, start=began, end=time.time(), step=INTERVAL_S)
            found.append({"legend": target.get("legendFormat", ""), "series": series})
        answers[panel["title"]] = found
    if named := os.environ.get("POUCHRICH_DASHBOARD"):
        Path(named).write_text(json.dumps({"began": began, "answers": answers}))
    silent = {title for title, found in answers.items() if not any(one["series"] for one in found)}
    assert silent <= EMPTY, silent
