#!/usr/bin/env python3
"""Measure our shim and containerd's own shims, over the interface that containerd uses, and through containerd.

Usage: hack/bench.py [--prefix DIR] [--row NAME]... [--long] [--rounds N] [--pods N,N,...] [--json FILE] [--png FILE]

Rows: life (from `start` to `delete` of one container), exec, burst (N at once), stdout, memory (of N idle pods), flat
(private memory over many execs), stats (of one container, repeatedly), ctr (`ctr run` of N at once with a real
containerd). A run takes some minutes, with --long a quarter of an hour: up to 200 pods and 1,000 execs.

All shims are measured alternately in one run, with the same OCI runtime and the same containers. Medians are printed,
with the ratio to each of containerd's shims and to the OCI runtime alone. Needs root, `hack/install.sh --prefix DIR` or
a release's install, and for containerd 2.1's shim `hack/fetch-runtimes.py`. It runs in the Python environment of the
measured installation, or for a release in that of hack/test.sh.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
from pathlib import Path

HACK = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
ROWS = ("life", "exec", "burst", "stdout", "memory", "flat", "stats", "ctr")
SHORT = {"bursts": [10, 50], "pods": [1, 10, 50], "execs": 100, "ctr": [1, 10]}
LONG = {"bursts": [10, 50, 100, 200], "pods": [1, 10, 50, 100, 200], "execs": 1000, "ctr": [1, 10, 50, 100]}


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", type=Path, default=CACHE / "prefix", help="where the shim is installed")
    parser.add_argument("--runtimes", type=Path, default=CACHE / "runtimes", help="directory of hack/fetch-runtimes.py")
    parser.add_argument("--row", action="append", choices=ROWS, help="measure only this row; may be repeated")
    parser.add_argument("--shim", action="append", help="only shims whose name contains this; may be repeated")
    parser.add_argument("--oci", default=shutil.which("crun") or "/usr/bin/crun", help="OCI runtime (absolute path)")
    parser.add_argument("--rounds", type=int, default=30, help="default 30")
    parser.add_argument("--long", action="store_true", help="measure up to 200 pods and 1,000 execs")
    parser.add_argument("--bursts", type=numbers, help="numbers of containers at once, for row burst")
    parser.add_argument("--pods", type=numbers, help="numbers of idle pods, for row memory")
    parser.add_argument("--execs", type=int, help="number of execs, for row flat")
    parser.add_argument("--calls", type=int, default=1000, help="Stats calls to each shim, in a third of the rounds")
    parser.add_argument("--ctr", type=numbers, help="numbers of `ctr run` at once, for row ctr")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds before memory is read")
    parser.add_argument("--mib", type=int, default=1024, help="MiB of output, for row stdout")
    parser.add_argument("--rich", action="store_true", help="measure also our shim with rich containers")
    parser.add_argument("--no-spawner", action="store_true", help="measure also our shim without its spawner")
    parser.add_argument("--json", type=Path, help="file for all samples")
    parser.add_argument("--png", type=Path, help="file for a plot of growth with the number of pods")
    given = parser.parse_args()
    for name, usual in (LONG if given.long else SHORT).items():
        if getattr(given, name) is None:
            setattr(given, name, usual)
    given.row = given.row or list(ROWS)
    return given


def numbers(text: str) -> list[int]:
    """Parse numbers such as "1,10,50"."""
    return [int(word) for word in text.split(",")]


def use_installed_python(prefix: Path) -> None:
    """Re-execute in the environment of the installation, which has protobuf; the code is this checkout's."""
    wanted = (prefix / "lib" / "pouchrich" / "current").resolve() / "venv"
    if (wanted.parent / "python").exists():  # a release's interpreter lacks modules that only measuring needs
        wanted = CACHE / "venv"
    if Path(sys.prefix) != wanted:
        python = wanted / "bin" / "python3"
        if not python.exists():
            sys.exit(f"bench: {python}: not there, run: hack/install.sh --prefix {prefix}")
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    sys.path[:0] = [str(HACK), str(HACK.parent)]


def main() -> None:
    given = parse()
    if os.geteuid() != 0:
        sys.exit("bench: needs root")
    use_installed_python(given.prefix.resolve())
    from benchmark import report, run

    results = asyncio.run(run.run(given))
    machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version()}
    print(report.table(results))
    if given.json:
        given.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    if given.png:
        report.plot(given.json or given.png.with_suffix(".json"), given.png, results)


if __name__ == "__main__":
    main()
