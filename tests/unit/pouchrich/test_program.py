"""pouchrich.program: a program that is many is run by the name that it had."""

import shutil
import subprocess

import pytest

from pouchrich import containerd_config
from pouchrich.program import Program


def test_a_program_that_is_many_is_the_one_that_was_found():
    busybox = shutil.which("busybox")
    assert busybox is not None
    assert Program(busybox, "/data/bin/echo").output("said", timeout_s=5) == "said\n"
    with pytest.raises(subprocess.CalledProcessError):
        Program(busybox, "exe").output("said", timeout_s=5)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("containerd github.com/containerd/containerd/v2 2.1.9 2.1.9+ds1-5", (2, 1)),
        ("containerd github.com/k3s-io/containerd v2.0.5-k3s1 ", (2, 0)),
        ("k3s version v1.33.4+k3s1 (148243c4)\ngo version go1.24.5", None),
    ],
)
def test_what_is_not_containerd_has_no_version_of_it(said, found, tmp_path):
    script = tmp_path / "containerd"
    script.write_text(f"#!/bin/sh\ncat <<X\n{said}\nX\n")
    script.chmod(0o755)
    assert containerd_config.version_of(Program(str(script))) == found
