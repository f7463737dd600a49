"""`pouchrich support` where containers print secrets and choose what they are called, and what is kept of them."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.integration import binaries
from tests.integration.node import Node
from tests.integration.rich_pods import RichPods
from tests.integration.test_crashes import kill_shim
from tests.integration.test_rich_application import FOREVER, SYSTEMD, in_one_place, running
from tests.integration.test_rich_hooks import hook
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

OUTPUT = '{"auth": {"password": "hunter2"}} token => hunter3'
"""Two secrets, whose keys the names of two processes are parts of."""


def pouchrich(node: Node, *words: str) -> str:
    """What the operator's command prints on the node."""
    program = ["nsenter", f"--mount=/proc/{node.pid}/ns/mnt", str(binaries.prefix() / "bin/pouchrich")]
    return subprocess.run([*program, *words], capture_output=True, check=True, text=True).stdout


def support(node: Node, directory: Path, *words: str) -> dict[str, str]:
    """The files of the archive for an issue."""
    file = directory / "support.tar"
    pouchrich(node, "support", "--output", str(file), "--address", str(node.socket), *words)
    with tarfile.open(file) as archive:
        members = [(Path(member.name).name, archive.extractfile(member)) for member in archive]
        return {name: content.read().decode() for name, content in members if content is not None}


@pytest.mark.parametrize("words", [(), ("--names",)], ids=["without names", "with names"])
def test_secrets_are_in_no_file_for_an_issue(rich_pods: RichPods, tmp_path: Path, words: tuple[str, ...]) -> None:
    pod = rich_pods.pod("dumb-init", more=hook("prestart", "container", f"cat >/dev/null; echo '{OUTPUT}'"))
    script = f"cp /bin/sleep /tmp/pass; cp /bin/sleep /tmp/toke; /tmp/pass 1000 & /tmp/toke 1000 & {FOREVER}"
    container = running(rich_pods.create(pod, SYSTEMD, "sh", "-c", script).start())
    found = support(rich_pods.node, tmp_path, *words)
    logs = [line for one in json.loads(found["containers.json"]) for line in one["log"]]
    assert any(line.endswith('{"auth": (removed)} token => (removed)') for line in logs), logs
    assert (container.id in found["containers.json"]) == bool(words)
    assert "containerd" in found["containerd.txt"]
    everything = "".join(found.values())
    assert "hunter2" not in everything
    assert "hunter3" not in everything


def test_the_log_of_a_container_whose_pod_server_was_killed_is_kept(rich_pods: RichPods, tmp_path: Path) -> None:
    node = rich_pods.node
    pod = rich_pods.pod("dumb-init", more=hook("prestart", "container", f"cat >/dev/null; echo 'ready: {OUTPUT}'"))
    container = running(rich_pods.create(pod, SYSTEMD, "sh", "-c", FOREVER).start())
    kill_shim(node, "pouchrich", containing=pod.id)
    container.wait()
    until(lambda: container.id not in pouchrich(node, "ps", "--no-trunc"), "the container to be cleaned up")
    assert f"ready: {OUTPUT}" in pouchrich(node, "logs", container.id)
    assert "its pod server was killed" in pouchrich(node, "inspect", container.id)
    (kept,) = (one for one in json.loads(support(node, tmp_path, "--names")["ended.json"]) if one["id"] == container.id)
    assert any(line.endswith('ready: {"auth": (removed)} token => (removed)') for line in kept["log"]), kept
    assert kept["reason"] == "its pod server was killed"
