"""The package is replaced while pods run: their servers go on as what they are, new pods are of the new package."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration import binaries
from tests.integration.node import Node
from tests.integration.pods import RUNNING, Pods

OURS = ("shim", "runtime", "protos")
TELL = """
with __import__("io").open({told!r}, "a") as _told:
    _told.write(__import__("os").readlink("/proc/self") + "\\n")
"""
"""What each module of the new package does at the end: tell which process has imported it."""


class Upgrade:
    """A new package in the place of the installed one, as the node sees it."""

    def __init__(self, node: Node) -> None:
        self._told = node.base / "imported"
        self._told.touch()
        new = node.base / "upgraded"
        shutil.copytree(binaries.prefix() / "lib/pouchrich", new, symlinks=True)
        for package in OURS:
            for module in new.glob(f"venv/lib/python3*/site-packages/{package}/**/*.py"):
                module.write_text(module.read_text() + TELL.format(told=str(self._told)))
        in_node = ["nsenter", "--mount", "--target", str(node.pid)]
        subprocess.run([*in_node, "mount", "--bind", new, binaries.prefix() / "lib/pouchrich"], check=True)

    def importers(self) -> set[int]:
        """The pids that have imported something of it."""
        return set(map(int, self._told.read_text().split()))


@contextlib.contextmanager
def upgraded(node: Node) -> Iterator[Upgrade]:
    try:
        yield Upgrade(node)
    finally:
        in_node = ["nsenter", "--mount", "--target", str(node.pid)]
        subprocess.run([*in_node, "umount", "--lazy", binaries.prefix() / "lib/pouchrich"], check=True)
        shutil.rmtree(node.base / "upgraded")


@pytest.mark.only(runtime=("pouchrich", "pouchrich-rich"))
@pytest.mark.usually("2.1-crun-pouchrich", "1.6-runc-pouchrich-rich")
def test_pod_servers_survive_an_upgrade_of_the_package_and_mix_nothing_of_it_in(pods: Pods) -> None:
    idle = pods.run()  # of two servers the second has a spawner for a parent, if there is one
    pod = pods.run()
    first = pod.run("sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    old = set(pods.node.shims())
    assert len(old) == 2
    with upgraded(pods.node) as new:
        assert first.shell("echo still here") == "still here\n"
        second = pod.run("sh", "-c", "echo of the new; exit 4", name="second")
        assert second.wait().exit_code == 4
        second.wait_output(b"of the new\n")
        first.stop(grace_s=10)
        assert first.status().exit_code == 3
        assert idle.run("sleep", "1000").status().state == RUNNING
        assert set(pods.node.shims()) == old
        assert pods.run().run("sleep", "1000").status().state == RUNNING
        (newer,) = set(pods.node.shims()) - old
        assert pods.remove_all() == []
        assert not old & new.importers()
        assert new.importers(), f"nobody has used the new package, {newer} neither"
