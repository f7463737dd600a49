#!/usr/bin/env python3
"""Measure our shim and containerd's own through the CRI of a real containerd, as the kubelet uses it.

Usage: hack/bench-cri.py [--containerd RELEASE|DIR] [--oci runc|crun] [--row NAME]... [--rounds N] [--json FILE]

Rows: pod (pods of 1 and of 3 containers: each request of a pod's life, and the CPU time of its whole life), exec,
start (the parts of a further container's StartContainer and of an ExecSync, by the programs that the kernel saw run),
spent (a pod's CPU time by program: containerd, the shim, the OCI runtime), burst (N pods at once), cold (N pods at once
without a running spawner, as after an upgrade or a kill), restarted (N pods at once as soon as a restarted containerd
answers), polled (Stats of every container each second, and an exec every ten seconds in half of the pods, for
--minutes), killed (a pod's shim is killed, and containerd cleans up).

Three handlers of one containerd are measured alternately, with the same OCI runtime and the same containers:
containerd's own shim, our shim with plain containers, and our shim with rich containers (dumb-init). Medians are
printed, and the ratios of our shim to containerd's. Needs root, and `hack/test.sh prepare`, whose Python environment,
runtimes and installed shim it uses.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

HACK = Path(__file__).resolve().parent
HANDLERS = ("ours-rich", "ours-plain", "go-shim")
ROWS = ("pod", "exec", "start", "spent", "burst", "cold", "restarted", "polled", "killed")


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--containerd", default="2.1", help="release of hack/fetch-runtimes.py, or a directory")
    parser.add_argument("--oci", choices=("runc", "crun"), default="crun", help="OCI runtime; default crun")
    parser.add_argument("--row", action="append", choices=ROWS, help="measure only this row; may be repeated")
    parser.add_argument(
        "--handler", action="append", choices=HANDLERS, help="measure only this handler; may be repeated"
    )
    parser.add_argument("--rounds", type=int, default=20, help="default 20; of bursts a tenth of it")
    parser.add_argument("--bursts", type=numbers, default=[10, 50], help="numbers of pods at once, for row burst")
    parser.add_argument("--cold", type=numbers, default=[20], help="numbers of pods at once, for cold and restarted")
    parser.add_argument("--pods", type=int, default=20, help="number of polled pods of each handler")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of polling")
    parser.add_argument("--json", type=Path, help="file for all samples")
    given = parser.parse_args()
    given.row = given.row or list(ROWS)
    given.handler = given.handler or list(HANDLERS)
    return given


def numbers(text: str) -> list[int]:
    """Parse numbers such as "1,10,50"."""
    return [int(word) for word in text.split(",")]


def use_tests_python() -> None:
    """Re-execute in the Python environment of the tests, which has a gRPC client."""
    cache = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
    python = cache / "venv" / "bin" / "python"
    if Path(sys.prefix) != cache / "venv":
        if not python.exists():
            sys.exit(f"bench-cri: {python}: not there, run: hack/test.sh prepare")
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    sys.path[:0] = [str(HACK), str(HACK.parent)]


def main() -> None:
    given = parse()
    if os.geteuid() != 0:
        sys.exit("bench-cri: needs root")
    use_tests_python()
    from benchmark import cri, report

    results = cri.run(given)
    machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "containerd": given.containerd, "oci": given.oci}
    print(report.table(results))
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
