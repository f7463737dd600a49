#!/usr/bin/env python3
"""Cause exits by the published recipes for lost ones, and count those that are reported.

Usage: hack/exits.py [--shim ours|runc] [--containerd 2.1|1.7|1.6|DIR] [--oci crun|runc] [--exits N]
                     [--recipe consumer|kill-all|oom|churn]... [--json FILE]

A private containerd runs each recipe on a fresh node (hack/chaos/exits.py describes them). An exit counts as lost if it
is not reported within a minute, and a shim as left if it still exists 90 s after all pods were removed. Needs root and
what `hack/test.sh prepare` installs. The exit status is 1 if an exit is lost or wrong, or a shim left.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def parse() -> argparse.Namespace:
    from hack.chaos.exits import RECIPES
    from tests.integration import binaries

    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shim", choices=("ours", "runc"), default="ours", help="runc: containerd's own")
    parser.add_argument("--containerd", default="2.1", type=binaries.named, help="release, or a directory")
    parser.add_argument("--oci", choices=("crun", "runc"), default="crun", help="OCI runtime; default crun")
    parser.add_argument("--exits", type=int, default=1000, help="exits of all recipes together; default %(default)s")
    parser.add_argument("--recipe", action="append", choices=list(RECIPES), help="only this recipe; may be repeated")
    parser.add_argument("--json", type=Path, help="file for the counts")
    given = parser.parse_args()
    given.recipe = given.recipe or list(RECIPES)
    return given


def main() -> int:
    from hack.chaos import environment

    environment.use_tests_python("exits")
    given = parse()
    from tests.integration import isolation

    isolation.enter()  # before any thread is started
    from hack.chaos import exits, run
    from tests.integration import images
    from tests.integration.node import running

    print(f"exits: {run.versions(given)}", file=sys.stderr, flush=True)
    tars = images.write_all(Path("/run/pouchrich-tests/images"))
    handler = "pouchrich" if given.shim == "ours" else "runc.v2"
    share = sum(exits.SHARES[recipe] for recipe in given.recipe)
    counts: dict[str, exits.Count] = {}
    print("| recipe | exits | lost | wrong | calls that failed | shims left | pods left | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for recipe in given.recipe:
        with running(given.containerd, given.oci, tars) as node:
            found = exits.run(node, handler, recipe, round(given.exits * exits.SHARES[recipe] / share))
        counts[recipe] = found
        cells = (found.exits, found.lost, found.wrong, found.failed_calls, found.shims_left, found.pods_left)
        print(f"| {recipe} | {' | '.join(map(str, cells))} | {found.seconds:.0f} |", flush=True)
        for line in found.details:
            print(f"exits:   {line}", file=sys.stderr, flush=True)
        if given.json:
            about = {"shim": given.shim, "oci": given.oci, "versions": run.versions(given)}
            told = {name: count.as_json() for name, count in counts.items()}
            given.json.write_text(json.dumps({**about, "recipes": told}, indent=1) + "\n")
    return int(any(count.lost or count.wrong or count.shims_left for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
