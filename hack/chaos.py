#!/usr/bin/env python3
"""Inject faults while containers run, and count what is lost or left behind.

Usage: hack/chaos.py [--shim ours|runc] [--containerd 2.1|1.7|1.6|DIR] [--oci crun|runc] [--faults N] [--seed N]
                     [--round N] [--kind KIND]... [--mode MODE]... [--json FILE] [--evidence DIR]

A private containerd runs rounds of pods in all modes, with hooks and an agent; their containers have known output and
exit codes. Meanwhile pod servers, the spawner and its prefork child, OCI runtimes, containerd and more are killed or
stopped at random moments, and the disk is full for a while. After each round every exit code, every byte of output,
every run of a hook, and what is left on the node are checked. hack/chaos/law.py says what a fault may cost, the same
for both shims. `--shim runc` runs the same plan with containerd's own shim, for which every container is plain.

The same seed gives the same plan; `--round` runs only one of its rounds. `--containerd DIR` takes containerd, ctr and
containerd-shim-runc-v2 from DIR. Needs root and what `hack/test.sh prepare` installs. The exit status is 1 if something
is lost or left behind.
"""

import argparse
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAULTS_OF_A_ROUND = 40
sys.path.insert(0, str(ROOT))


def parse() -> argparse.Namespace:
    from hack.chaos.plan import FAULTS, MODES
    from tests.integration import binaries

    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shim", choices=("ours", "runc"), default="ours", help="runc: containerd's own")
    parser.add_argument(
        "--containerd", default="2.1", type=binaries.named, help="release that the tests know, or a directory"
    )
    parser.add_argument("--oci", choices=("crun", "runc"), default="crun", help="OCI runtime; default crun")
    parser.add_argument("--faults", type=int, default=100, help="inject at least this many; default %(default)s")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20), help="of the faults; default random")
    parser.add_argument("--round", type=int, help="run only this round of the seed's plan")
    parser.add_argument("--kind", action="append", choices=list(FAULTS), help="only these faults; may be repeated")
    parser.add_argument("--mode", action="append", choices=list(MODES), help="only these modes; may be repeated")
    parser.add_argument("--json", type=Path, help="file for the findings, written after each round")
    parser.add_argument("--evidence", type=Path, help="directory for containerd's log of rounds with findings")
    given = parser.parse_args()
    given.kind = given.kind or list(FAULTS)
    given.mode = given.mode or list(MODES)
    return given


def main() -> int:
    from hack.chaos import environment

    environment.use_tests_python("chaos")
    given = parse()
    from tests.integration import isolation

    isolation.enter()  # before any thread is started
    from hack.chaos import run, table

    def say(text: str) -> None:
        print(f"chaos: {text}", file=sys.stderr, flush=True)

    say(f"seed {given.seed}; {run.versions(given)}")
    outcome = run.run(given, FAULTS_OF_A_ROUND, say)
    name = f"{given.shim}, {given.oci}"
    print(f"seed {given.seed}, {dict(outcome.faults)}")
    print(table.table({name: outcome}))
    if outcome.wrong:
        print(table.findings(outcome))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
