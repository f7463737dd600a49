"""Start Kubernetes on a node of the tests' and run the cases: hack/test-kubernetes.sh, one line a check.

A line is `ok` or `FAIL`, who runs the containers, the case, and what was looked at; after FAIL what was found. Exit
status 1 where one failed. Cases run several at a time; kubelet and containerd are restarted at the end, when no other
pod has to wait for them.
"""

import argparse
import json
import re
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration import binaries, configuration, images, isolation, leaks, node, rich_images
from tests.kubernetes import checks, later, manifests, rollout
from tests.kubernetes.case import Case, attempt, failed, say
from tests.kubernetes.cluster import Cluster, release, shield
from tests.kubernetes.manifests import KINDS, Kind

AT_ONCE = 4
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NODE_FILE = str(binaries.prefix() / "etc/pouchrich/config.toml")

RECORD = r"""
state=$(cat)
of() { echo "$state" | tr , '\n' | sed -n 's/.*"io.kubernetes.cri.'$1'": *"\([^"]*\)".*/\1/p'; }
printf '{"pod":"%s","container":"%s","code":%s,"at":%s}\n' \
    "$(of sandbox-name)" "$(of container-name)" "$POUCHRICH_EXIT_CODE" "$(date +%s.%N)"
"""
"""A poststop hook of the node's: one line of JSON an end."""


def configure(running: node.Node) -> None:
    """Give our handlers the hook, and one of them mode systemd."""
    command = json.dumps(["/bin/sh", "-c", f"exec >>{running.base}/ends\n{RECORD}"])
    files = {configuration.RICH_FILE: "dumb-init", configuration.TEST_FILE: "systemd", NODE_FILE: "dumb-init"}
    for path, mode in files.items():
        rich = f'version = 1\n[runtime]\nbinary = "{running.oci}"\n[rich]\nmode = "{mode}"\n'
        hook = f'[[hooks.poststop]]\nname = "record"\nwhere = "host"\ncommand = {command}\n'
        running.write_files({path: rich + hook})


def everything(running: node.Node, programs: Path, words: list[str]) -> None:
    """Start Kubernetes and run the cases whose title has one of the words."""
    began = time.monotonic()
    configure(running)
    rich_images.import_system(running, manifests.SYSTEMD)
    cluster = Cluster(running, programs)
    for name, handler in manifests.HANDLERS.items():
        cluster.create(manifests.runtime_class(name, handler))
    version = cluster.get("/version")["gitVersion"]
    those = f"Kubernetes {version}, containerd {binaries.release(running.version)} and {running.oci.name}"
    say(f"     {those} are up: {time.monotonic() - began:.0f} s")
    baseline = leaks.everything(running)
    chosen = [(function, kind) for function in checks.EVERYWHERE for kind in KINDS]
    # containerd's own shim, of 2.1.9 and 2.3.4, leaves processes, sockets and the OCI runtime's state then.
    tidy = [kind for kind in KINDS if kind.is_rich or cluster.containerd < (2, 1)]
    chosen += [(function, kind) for function in checks.ACCIDENTS for kind in tidy]
    chosen += [(function, kind) for function in checks.RICH for kind in KINDS if kind.is_rich]
    chosen += checks.ONCE
    chosen += [(one.function, kind) for one in later.cases(cluster) for kind in one.kinds]
    cases = [(Case(cluster, kind, function.__name__), function) for function, kind in chosen]
    wanted = [(case, function) for case, function in cases if not words or any(word in case.title for word in words)]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        list(pool.map(lambda one: attempt(*one), wanted))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # what an interrupt leaves ends with the cluster
    whole = Case(cluster, Kind("node", None, ""), "in the end")
    for last in (checks.restarted_daemons, checks.rebooted_node):
        if not words or any(word in last.__name__.replace("_", " ") for word in words):
            attempt(whole, lambda _, function=last: function(cluster))
    whole.until(lambda: not left_of_pods(cluster, baseline), 60)
    whole.equal("what is left of the pods", left_of_pods(cluster, baseline), [])


def keep_logs(running: node.Node) -> None:
    """Copy the programs' logs to the cache, for who asks why a check failed."""
    directory = binaries.cache() / "kubernetes" / "logs"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for log in (running.log, *running.base.glob("kubernetes/*.log")):
        shutil.copy2(log, directory)
    say(f"     the logs are in {directory}")


def left_of_pods(cluster: Cluster, baseline: frozenset[str]) -> list[str]:
    """All the traces but Kubernetes' own processes, which are others after a restart, and kubelet's cgroups.

    Of those it leaves the ones in the v2 hierarchy of a hybrid host.
    """
    own = (
        rf"process \d+ . {re.escape(str(cluster.programs))}/.*|cgroup .*/kubepods(/besteffort|/burstable)?(/pod[^/]+)?"
    )
    return [line for line in leaks.found(cluster.node, baseline) if not re.fullmatch(own, line)]


def containerd_for(programs: Path) -> str:
    """The newest containerd that speaks that kubelet's CRI: v1 alone from 1.26 on, and 2.0 speaks no other."""
    return "2.1" if release(programs) >= (1, 26) else "1.7"


def _end(*_: object) -> None:
    """Unwind, once."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="hack/test-kubernetes.sh")
    parser.add_argument("--programs", type=Path, required=True, help="of Kubernetes, and etcd")
    parser.add_argument("--containerd", type=binaries.named, metavar="RELEASE|DIR")
    parser.add_argument("--oci", choices=binaries.OCIS, default="runc")
    parser.add_argument("--release", metavar="ARTEFACT", help="of hack/release.sh: deploy/ with it, and nothing else")
    parser.add_argument("--pods", type=int, default=20, help="with --release: rich pods that run through all of it")
    parser.add_argument("--helm", metavar="PROGRAM", default="", help="with --release: by this helm and deploy/chart")
    parser.add_argument("words", nargs="*", metavar="WORD", help="part of a title: only the cases that have one")
    args = parser.parse_args()
    if args.release is not None:
        args.release = Path(args.release).resolve()
    if args.containerd is None:
        args.containerd = containerd_for(args.programs)
    for number in ENDS:
        signal.signal(number, _end)
    isolation.enter()
    scratch = Path("/run/pouchrich-tests")
    tars = images.write_all(scratch / "images")
    shield()
    with node.running(args.containerd, args.oci, tars) as running:
        if args.release is None:
            everything(running, args.programs, args.words)
        else:
            rollout.everything(running, args.programs, args.release, args.pods, helm=args.helm)
        if failed:
            keep_logs(running)
    say(f"{len(failed)} checks failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
