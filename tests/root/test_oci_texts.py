"""The real OCI runtimes of the tests' environments say what `runtime.oci.log` takes their errors to mean."""

import os
import subprocess

import pytest

from runtime.oci import log
from tests.integration import binaries

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

NAMES = ("nobody", "9")
ASKED = {
    "delete": ("delete", "nobody"),
    "kill": ("kill", *NAMES),
    "kill --all": ("kill", "--all", *NAMES),
    "pause": ("pause", "nobody"),
    "resume": ("resume", "nobody"),
    "start": ("start", "nobody"),
    "state": ("state", "nobody"),
    "exec": ("exec", "nobody", "true"),
    "update": ("update", "--pids-limit", "9", "nobody"),
}


@pytest.mark.parametrize("words", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("name", binaries.OCIS)
@pytest.mark.parametrize("containerd", ["1.6", "2.1"])
def test_a_container_that_it_has_never_heard_of_is_recognised(tmp_path, containerd, name, words):
    said, root = tmp_path / "log", tmp_path / "root"
    root.mkdir()
    argv = [binaries.oci(containerd, name), "--root", root, "--log", said, "--log-format", "json", *words]
    done = subprocess.run(argv, capture_output=True, check=False)
    text = log.last_error(said.read_bytes(), done.stdout + done.stderr, done.returncode)
    assert done.returncode
    assert log.says_unknown(text), text
