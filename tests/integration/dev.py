"""A private containerd to play with: hack/dev-containerd.sh.

The same node as the tests', in its own mount and network namespaces, until interrupted; then nothing of it is left.
"""

import argparse
import signal
import sys
from pathlib import Path

from tests.integration import binaries, configuration, images, isolation, node

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def guide(running: node.Node) -> str:
    """The commands to use, to be run as root from another terminal."""
    enter = f"nsenter -t {running.pid} -m -n"
    ctr = f"{enter} {' '.join(running.ctr_argv())}"
    handlers = ", ".join(configuration.handlers(running.settings))
    flags = f"--snapshotter {running.settings.snapshotter} --cgroup {running.cgroup}/demo"
    runtime = "--runtime io.containerd.pouchrich.v2 --runtime-config-path"
    return f"""
containerd {running.version} with {running.oci}; its log is {running.log}

A rich container, and a plain one:
  {ctr} run --rm -t {runtime} {configuration.RICH_FILE} {flags} {images.BUSYBOX} demo sh
  {ctr} run --rm -t {runtime} {configuration.PLAIN_FILE} {flags} {images.BUSYBOX} demo sh
What runs:
  {ctr} tasks ls
Pods (image {images.BUSYBOX}, pods need "cgroup_parent": "{running.cgroup}"; handlers: {handlers}):
  {enter} crictl --runtime-endpoint unix://{running.socket} --image-endpoint unix://{running.socket} pods
The shim's configuration on this node:
  {enter} ls /etc/pouchrich

Ctrl-C ends it all."""


def _end(*_: object) -> None:
    """Unwind, once."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="hack/dev-containerd.sh")
    parser.add_argument("--containerd", type=binaries.named, default="2.1", metavar="RELEASE|DIR")
    parser.add_argument("--oci", choices=binaries.OCIS, default="crun")
    args = parser.parse_args()
    for number in ENDS:
        signal.signal(number, _end)
    isolation.enter()
    tars = images.write_all(Path("/run/pouchrich-tests/images"))
    with node.running(args.containerd, args.oci, tars) as running:
        print(guide(running), flush=True)
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
