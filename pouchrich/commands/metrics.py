"""`pouchrich metrics`: print metrics of the node's rich containers for Prometheus, in the OpenMetrics format.

Without options the metrics are printed once. --textfile FILE writes them for node_exporter's textfile collector, in
Prometheus's text format; the file is replaced atomically, and a timer should run the command. --listen [ADDRESS:]PORT
serves them at /metrics on a loopback address until SIGTERM or SIGINT. All three need root.

Counters and histograms include all pods since the node's boot, also those that are gone. No label has the name of a
pod, image or hook. All names begin with `pouchrich_`.

Gauges:

    version_info{version}; containers{mode, state}; container_problems: agents that do not run, containers restarted
    in place, and unreadable containers; pod_servers, pod_servers_memory_bytes (sum of proportional set sizes);
    spawners; spawners_killed: killed and not replaced yet; owed_records: records of poststop hooks;
    owed_hooks{state}: the hooks in them

Histograms, in seconds:

    start_seconds{mode, outcome}: Start requests, with prestart hooks and the queue for boots
    boot_seconds{mode, outcome}: from the start of a real init to a running application
    stop_seconds{mode}: from the stop signal to the end of PID 1; hook_seconds{stage, where, owner, outcome}

Counters:

    exits_total{mode, reason}, fallbacks_total{asked, got, reason}, refusals_total{stage, reason},
    hooks_skipped_total{where, owner}, restarts_in_place_total, agent_restarts_total, init_kills_total{init}

`--json` prints the same samples once:

    {"version": 1, "samples": [{"name", "labels": {name: value}, "value": number}]}
"""

import argparse
import ipaddress
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import shim
from pouchrich import facts, prometheus, series
from pouchrich.facts import Facts
from pouchrich.output import show_json
from pouchrich.prometheus import (
    Collector,
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from runtime import measured, paths

_HELP = {
    "start_seconds": "Start requests of rich containers, with their hooks and the queue for boots",
    "boot_seconds": "Boots of real inits, from their start to a running application",
    "stop_seconds": "Stops, from the stop signal to the end of PID 1",
    "hook_seconds": "Hooks that ran",
    "exits": "Ends of rich containers",
    "fallbacks": "Containers that got another mode than the requested one, or stayed plain",
    "refusals": "Create and Start requests that failed",
    "hooks_skipped": "Owed poststop hooks that were not run",
    "restarts_in_place": "Applications that init started again",
    "agent_restarts": "Agents that the shim started again",
    "init_kills": "Inits that did not shut down in their time and were killed",
}
_STATES = ("owed", "started", "done", "skipped")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--listen",
        type=listen_address,
        metavar="[ADDRESS:]PORT",
        help="serve the metrics on a loopback address until SIGTERM or SIGINT",
    )
    where.add_argument("--textfile", metavar="FILE", help="write the metrics for node_exporter's textfile collector")
    where.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.set_defaults(run=run)


def listen_address(text: str) -> tuple[str, int]:
    """The address and port from the command line. Raises ArgumentTypeError for an address that is not loopback."""
    address, _, port = text.rpartition(":")
    address = address.strip("[]") or "127.0.0.1"
    with suppress(ValueError):
        if ipaddress.ip_address(address).is_loopback and 0 <= int(port) <= 65535:
            return address, int(port)
    raise argparse.ArgumentTypeError(f"found {text!r}, allowed PORT or a loopback ADDRESS:PORT such as 127.0.0.1:9787")


class NodeCollector(Collector):
    """All metrics, collected anew for each request, for one request at a time."""

    def __init__(self, collect: Callable[[], Facts] = facts.collect, *, root: str = paths.METRICS) -> None:
        self._collect = collect
        self._root = root
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client. Raises OSError."""
        with self._lock:
            now, found = self._collect(), list(measured.read(self._root))
        yield from _now(now)
        for name, text in _HELP.items():
            yield _measured(name, text, [one for one in found if one.name == name])


def _gauge(name: str, text: str, value: float, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pouchrich_{name}", text, value=value, unit=unit)


def _now(found: Facts) -> Iterator[Metric]:
    info = GaugeMetricFamily("pouchrich_version_info", "Version of this command", labels=("version",))
    info.add_metric((shim.__version__,), 1)
    yield info
    by_state = GaugeMetricFamily("pouchrich_containers", "Rich containers", labels=("mode", "state"))
    for (mode, state), count in sorted(found.containers.items()):
        by_state.add_metric((mode, state), count)
    yield by_state
    yield _gauge("container_problems", "Agents that do not run, and containers restarted in place", found.problems)
    yield _gauge("pod_servers", "Processes that serve a pod", found.pod_servers)
    text = "Memory of all pod servers (proportional set size)"
    yield _gauge("pod_servers_memory_bytes", text, found.pod_server_bytes, "bytes")
    yield _gauge("spawners", "Running spawners", found.spawners)
    yield _gauge("spawners_killed", "Spawners that were killed and not replaced yet", found.spawners_killed)
    yield _gauge("owed_records", "Records of poststop hooks", found.owed_records)
    by_hook = GaugeMetricFamily("pouchrich_owed_hooks", "Poststop hooks in these records", labels=("state",))
    for state in _STATES:
        by_hook.add_metric((state,), found.owed[state])
    yield by_hook


def _measured(name: str, text: str, found: list[measured.Series]) -> Metric:
    labels = series.LABELS[name]
    family: HistogramMetricFamily | CounterMetricFamily
    if name.endswith("_seconds"):
        family = HistogramMetricFamily(f"pouchrich_{name}", text, labels=labels, unit="seconds")
    else:
        family = CounterMetricFamily(f"pouchrich_{name}", text, labels=labels)
    counted = {tuple(value for _, value in one.labels): one for one in found if _keys(one) == labels}
    for values in dict.fromkeys((*counted, *series.combinations(name))):
        one = counted.get(values)
        if isinstance(family, CounterMetricFamily):
            family.add_metric(values, one.total if one is not None else 0)
            continue
        buckets = one.buckets if one is not None else (0,) * (len(measured.SECONDS) + 1)
        bounds = [*map(str, one.bounds if one is not None else measured.SECONDS), "+Inf"]
        sums = [sum(buckets[: at + 1]) for at in range(len(buckets))]
        family.add_metric(values, list(zip(bounds, sums, strict=True)), one.total if one is not None else 0.0)
    return family


def _keys(one: measured.Series) -> tuple[str, ...]:
    """The names of its labels: another version may have had others."""
    return tuple(key for key, _ in one.labels)


def run(arguments: argparse.Namespace, *, collector: Collector | None = None) -> int:
    """Print, write or serve the metrics. Raises OSError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector or NodeCollector())
    if arguments.listen is not None:
        return _serve(registry, *arguments.listen)
    if arguments.textfile is not None:
        _replace(arguments.textfile, prometheus.text_format(registry))
    elif arguments.json:
        samples = [
            {"name": one.name, "labels": one.labels, "value": one.value}
            for family in registry.collect()
            for one in family.samples
        ]
        show_json({"version": 1, "samples": samples})
    else:
        print(prometheus.openmetrics(registry).decode(), end="")
    return 0


def _replace(path: str, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or ".", prefix=".pouchrich-", delete=False) as scratch:
        try:
            scratch.write(data)
            scratch.flush()
            os.fchmod(scratch.fileno(), 0o644)
            os.rename(scratch.name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(scratch.name)
            raise


def _serve(registry: CollectorRegistry, address: str, port: int) -> int:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with prometheus.server(registry, address, port) as server:
        print(f"serving http://{address}:{server.server_port}/metrics", flush=True)
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        ended.wait()
        server.shutdown()
        serving.join()
    return 0
