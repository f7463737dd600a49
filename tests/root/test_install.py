"""hack/install.sh --uninstall while it is needed: an installation of its own, as far as that is looked at."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.linux import syscalls

SCRIPT = Path(__file__).parents[2] / "hack" / "install.sh"
RECORD = Path("/var/lib/pouchrich/poststop/k8s.io/c1.jsonl")

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


@pytest.fixture
def installed(isolated, tmp_path):
    """Run `action(prefix)` with an empty /var/lib."""

    def run(action):
        def inside():
            syscalls.mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=0755")
            prefix = tmp_path / "prefix"
            (prefix / "lib/pouchrich/venv/bin").mkdir(parents=True)
            (prefix / "bin").mkdir()
            action(prefix)

        isolated(inside)

    return run


def uninstall(prefix, *more):
    """Its exit status, what it said, and whether the installation is still there."""
    words = [str(SCRIPT), "--prefix", str(prefix), "--uninstall", *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr, (prefix / "lib/pouchrich").exists()


def served(prefix):
    """A process that runs from the installation and calls itself what a pod server does, until its input is closed."""
    program = prefix / "lib/pouchrich/venv/bin/sh"
    shutil.copy("/bin/sh", program)
    words = ["containerd-shim-pouchrich-v2", "-c", "echo; read line", "-namespace", "k8s.io", "-id", "pod1"]
    child = subprocess.Popen(words, executable=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def test_what_nothing_needs_is_removed(installed):
    def check(prefix):
        status, said, is_there = uninstall(prefix)
        assert (status, is_there) == (0, False), said

    installed(check)


def test_pods_that_are_served_are_listed_and_keep_it(installed):
    def check(prefix):
        with served(prefix) as server:
            status, said, is_there = uninstall(prefix)
            assert (status, is_there) == (1, True)
            assert "-id pod1" in said
            assert f"(pid {server.pid})" in said
            assert "--force" in said
            other = prefix.parent / "other"
            (other / "lib/pouchrich").mkdir(parents=True)
            assert uninstall(other)[0] == 0
            status, said, is_there = uninstall(prefix, "--force")
            assert (status, is_there) == (0, False), said
            assert "clean up" in said

    installed(check)


def test_records_of_owed_hooks_are_listed_and_keep_it_and_are_never_removed(installed):
    def check(prefix):
        RECORD.parent.mkdir(parents=True)
        RECORD.write_text("{}")
        status, said, is_there = uninstall(prefix)
        assert (status, is_there) == (1, True)
        assert f"poststop hooks: {RECORD}" in said
        status, said, is_there = uninstall(prefix, "--force")
        assert (status, is_there) == (0, False), said
        assert RECORD.exists()

    installed(check)


def test_force_is_for_uninstalling(installed):
    def check(prefix):
        done = subprocess.run([SCRIPT, "--prefix", prefix, "--force"], capture_output=True, text=True, check=False)
        assert (done.returncode, "usage" in done.stderr) == (1, True)

    installed(check)
