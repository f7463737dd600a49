"""`pouchrich support` on a node whose containers print secrets, and choose what they are called."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.integration import binaries
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import FOREVER, SYSTEMD, in_one_place, running
from tests.integration.test_rich_hooks import hook

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

OUTPUT = '{"auth": {"password": "hunter2"}} token => hunter3'
"""Two secrets, whose keys the names of two processes are parts of."""


@pytest.mark.parametrize("words", [(), ("--names",)], ids=["without names", "with names"])
def test_secrets_are_in_no_file_for_an_issue(rich_pods: RichPods, tmp_path: Path, words: tuple[str, ...]) -> None:
    pod = rich_pods.pod("dumb-init", more=hook("prestart", "container", f"cat >/dev/null; echo '{OUTPUT}'"))
    script = f"cp /bin/sleep /tmp/pass; cp /bin/sleep /tmp/toke; /tmp/pass 1000 & /tmp/toke 1000 & {FOREVER}"
    container = running(rich_pods.create(pod, SYSTEMD, "sh", "-c", script).start())
    program = ["nsenter", f"--mount=/proc/{rich_pods.node.pid}/ns/mnt", str(binaries.prefix() / "bin/pouchrich")]
    where = ["--output", str(tmp_path / "support.tar"), "--address", str(rich_pods.node.socket)]
    subprocess.run([*program, "support", *where, *words], capture_output=True, check=True)

    found = {}
    with tarfile.open(tmp_path / "support.tar") as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[Path(member.name).name] = file.read().decode()
    logs = [line for one in json.loads(found["containers.json"]) for line in one["log"]]
    assert any(line.endswith('{"auth": (removed)} token => (removed)') for line in logs), logs
    assert (container.id in found["containers.json"]) == bool(words)
    assert "containerd" in found["containerd.txt"]
    everything = "".join(found.values())
    assert "hunter2" not in everything
    assert "hunter3" not in everything
