"""The bootstrap message of containerd 2.3 and later, on `start`'s standard input: all that a start needs is in it.

The command line's flags and the environment say the same; containerd's document of runtimes (docs/runtime-v2.md) has
them removed in a later release.
"""

from pathlib import Path

import pytest

from tests.integration import binaries, configuration, images
from tests.integration.ctr import Ctr
from tests.integration.test_events import Listener, assert_topics, listener  # noqa: F401  # the fixture

pytestmark = pytest.mark.only(containerd=("2.3", "2.4"), runtime="pouchrich")

ALONE = """#!/bin/sh
for word; do verb=$word; done
[ "$verb" = start ] || exec {shim} "$@"
while [ $# -gt 0 ]; do
    case $1 in -id) id=$2 ;; -namespace) namespace=$2 ;; esac
    shift
done
cat >{base}/message
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin {shim} -namespace "$namespace" -id "$id" start <{base}/message
"""
"""Ours, begun as by a containerd that says everything in the message and nothing but this beside it."""


@pytest.fixture
def alone(ctr: Ctr) -> Path:
    """The program that does so."""
    path = ctr.node.base / "containerd-shim-alone-v2"
    path.write_text(ALONE.format(shim=binaries.shim(), base=ctr.node.base))
    path.chmod(0o755)
    return path


def test_a_start_that_is_told_all_by_the_message_serves_and_sends_its_events(
    ctr: Ctr,
    listener: Listener,  # noqa: F811
    alone: Path,
) -> None:
    container = ctr.new_id()
    shim = ["--runtime", str(alone), "--runtime-config-path", configuration.PLAIN_FILE]
    place = ["--snapshotter", ctr.node.settings.snapshotter, "--cgroup", f"{ctr.node.cgroup}/{container}"]
    ctr.check("run", "--detach", *shim, *place, images.BUSYBOX, container, "sh", "-c", "exit 5")
    ctr.wait_stopped(container)
    assert (ctr.node.base / "message").stat().st_size
    ctr.delete(container)
    assert_topics(ctr, listener, container, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
