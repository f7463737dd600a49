"""hack/install.sh, killed in the middle, and --uninstall while the installation is needed.

The latter with as much of an installation as is looked at.
"""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.linux import syscalls
from shim.installed import replaced
from tests import checkout

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "hack" / "install.sh"
HOME = "lib/pouchrich"
VERSION = f"{HOME}/1.0-20260102T030405"
PROGRAMS = ("containerd-shim-pouchrich-v2", "pouchrich")
RECORD = Path("/var/lib/pouchrich/poststop/k8s.io/c1.jsonl")

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


@pytest.fixture
def installed(isolated, tmp_path):
    """Run `action(prefix)` with an empty /var/lib."""

    def run(action):
        def inside():
            syscalls.mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=0755")
            prefix = tmp_path / "prefix"
            for name in (f"{HOME}/0.9", VERSION):
                (prefix / name).mkdir(parents=True)
                (prefix / name / "in-use").touch(mode=0o600)
            (prefix / HOME / "current").symlink_to(Path(VERSION).name)
            (prefix / "bin").mkdir()
            for name in PROGRAMS:
                (prefix / "bin" / name).symlink_to(prefix / HOME / "current/bin" / name)
            action(prefix)

        isolated(inside)

    return run


def uninstall(prefix, *more):
    """Its exit status, what it said, and whether the installation is still there."""
    words = [str(SCRIPT), "--prefix", str(prefix), "--uninstall", *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr, (prefix / HOME).exists()


def served(prefix):
    """A process that runs from the installation and calls itself what a pod server does, until its input is closed."""
    program = prefix / VERSION / "sh"
    shutil.copy("/bin/sh", program)
    words = ["containerd-shim-pouchrich-v2", "-c", "echo; read line", "-namespace", "k8s.io", "-id", "pod1"]
    child = subprocess.Popen(words, executable=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    return child


def test_what_nothing_needs_is_removed(installed):
    def check(prefix):
        status, said, is_there = uninstall(prefix)
        assert (status, is_there) == (0, False), said
        assert list(prefix.iterdir()) == []

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
            (other / HOME).mkdir(parents=True)
            assert uninstall(other)[0] == 0
            status, said, is_there = uninstall(prefix, "--force")
            assert (status, is_there) == (0, False), said
            assert "clean up" in said

    installed(check)


def test_a_pod_server_that_has_a_replaced_version_locked_is_listed_too(installed):
    def check(prefix):
        words = ["containerd-shim-pouchrich-v2", "-c", "echo; read line", "-namespace", "k8s.io", "-id", "pod1"]
        with (prefix / HOME / "0.9/in-use").open() as lock:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen(words, executable="/bin/sh", pass_fds=[lock.fileno()], **pipes) as server:
                server.stdout.readline()
                status, said, is_there = uninstall(prefix)
                assert (status, is_there, f"(pid {server.pid})" in said) == (1, True, True), said

    installed(check)


def hostile(prefix):
    """A process that says all that a pod server does, in a mount namespace with another file at each of the paths."""
    program = prefix / HOME / "0.9/sh"
    script = f"""mount -t tmpfs image {prefix / HOME} && mkdir {program.parent} && cp /bin/sh {program} &&
        exec -a containerd-shim-pouchrich-v2 {program} -c 'echo; read line' {program}"""
    child = subprocess.Popen(
        ["unshare", "--mount", "bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdout.readline()
    assert os.readlink(f"/proc/{child.pid}/exe") == str(program)
    return child


def test_what_a_container_has_at_an_installations_path_keeps_nothing(installed):
    def check(prefix):
        with hostile(prefix) as process:
            os.utime(prefix / HOME / "current", (0, 0), follow_symlinks=False)
            assert replaced.remove_unused(str(prefix / HOME)) == [str(prefix / HOME / "0.9")]
            status, said, is_there = uninstall(prefix)
            assert (status, is_there) == (0, False), said
            process.communicate(b"\n")

    installed(check)


def test_an_uninstaller_waits_for_an_installer_and_takes_what_that_made(installed):
    def check(prefix):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with (prefix / HOME / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            words = [str(SCRIPT), "--prefix", str(prefix), "--uninstall"]
            uninstaller = subprocess.Popen(words, **pipes)
            assert "waiting for another run" in uninstaller.stderr.readline()
            (prefix / HOME / "1.1").mkdir()
        said = "".join(uninstaller.communicate(timeout=60))
        assert (uninstaller.returncode, (prefix / HOME).exists()) == (0, False), said

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


PYTHON = "/usr/bin/python3"
DEADLY = """
import os, runpy, signal, sys

def look(event, arguments):
    if event == "{event}" and "{words}" in repr(arguments):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Checkout:
    """A copy of the checkout, of whatever version is wanted, whose defaults have another text in each."""

    def __init__(self, directory):
        self.directory = directory
        checkout.copy(directory)

    def install(self, prefix, version, *, killed_at=("", "")):
        """Install it below `prefix`; with `killed_at` the installer dies as it is about to do that.

        That is to run a program with such words, or an event of Python's with such an argument (sys.addaudithook).
        What was said, and the exit status.
        """
        for file, pattern, text in (
            ("shim/__init__.py", '__version__ = ".*"', f'__version__ = "{version}"'),
            (
                "runtime/config/schema.py",
                'after which an idle spawner [^"]*',
                f"after which an idle spawner ends {version}",
            ),
        ):
            path = self.directory / file
            path.write_text(re.sub(pattern, text, path.read_text()))
        name, words = killed_at
        programs = self.directory / "programs"
        shutil.rmtree(programs, ignore_errors=True)
        programs.mkdir()
        env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        if "." in name:
            deadly = programs / "deadly.py"
            deadly.write_text(DEADLY.format(event=name, words=words))
            run = f'case "$*" in *hack/install.py*) shift; set -- -IB {deadly} "$@" ;; esac\nexec {PYTHON} "$@"'
            env["PYTHON"] = str(programs / "python")
            self._program(env["PYTHON"], run)
        elif name:
            parent = "kill -KILL $(cut -d ' ' -f 4 /proc/$PPID/stat)"
            run = f'case "$*" in *"{words}"*) {parent}; exit 1 ;; esac\nexec {shutil.which(name)} "$@"'
            self._program(programs / name, run)
        done = subprocess.run(
            [self.directory / "hack/install.sh", "--prefix", prefix],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr, done.returncode

    def _program(self, path, text):
        Path(path).write_text(f"#!/bin/sh\n{text}\n")
        Path(path).chmod(0o755)


def says(prefix):
    """The versions that the two executables say they are."""
    command = subprocess.run([prefix / "bin/pouchrich", "version"], capture_output=True, text=True, check=True)
    shim = subprocess.run([prefix / "bin" / PROGRAMS[0], "-v"], capture_output=True, text=True, check=True)
    return command.stdout.strip(), re.search(r"Version: *(\S+)", shim.stdout).group(1)


def versions(prefix):
    return {
        path.name.partition("-")[0] for path in (prefix / HOME).iterdir() if path.is_dir() and not path.is_symlink()
    }


@pytest.mark.full
@pytest.mark.timeout(600)
def test_an_installer_that_is_killed_leaves_an_installation_that_works_and_the_next_one_cleans_up(tmp_path):
    prefix, checkout = tmp_path / "prefix", Checkout(tmp_path / "checkout")
    config = prefix / "etc/pouchrich/config.toml"
    assert checkout.install(prefix, "1.0", killed_at=("cp", "pyproject.toml"))[1] == -9
    said, status = checkout.install(prefix, "1.1")
    assert status == 0, said
    assert versions(prefix) == {"1.1"}
    for version, program, words, is_done in (
        ("1.2", "cp", "pyproject.toml", False),
        ("1.3", "ctypes.dlsym", "syncfs", False),
        ("1.4", "os.rename", "current.new", False),
        ("1.5", "os.rename", "config.toml.known", True),
        ("1.6", "os.rename", "config.toml.new", True),
        ("1.7", "os.rename", "default.new'", True),
    ):
        assert checkout.install(prefix, version, killed_at=(program, words))[1] == -9
        works = version if is_done else "1.1"
        assert says(prefix) == (works, works)
    said, status = checkout.install(prefix, "1.0")  # an older one
    assert status == 0, said
    assert says(prefix) == ("1.0", "1.0")
    assert "kept" not in said
    assert "idle spawner ends 1.0" in config.read_text()
    assert not {"1.2", "1.3", "1.4"} & versions(prefix)
    assert sorted(path.name for path in (prefix / "bin").iterdir()) == sorted(PROGRAMS)
    config.write_text(config.read_text() + "# mine\n")
    said, status = checkout.install(prefix, "1.8")
    assert (status, f"kept {config}" in said) == (0, True), said
    assert uninstall(prefix)[0] == 0
    assert [path for path in prefix.rglob("*") if path.is_file()] == [config]


@pytest.mark.full
def test_an_installer_that_fails_leaves_nothing_and_the_former_version_works(tmp_path):
    prefix, checkout = tmp_path / "prefix", Checkout(tmp_path / "checkout")
    (checkout.directory / "pyproject.toml").rename(tmp_path / "pyproject.toml")
    said, status = checkout.install(prefix, "1.0")
    assert (status, "not a whole checkout" in said, prefix.exists()) == (1, True, False), said
    (tmp_path / "pyproject.toml").rename(checkout.directory / "pyproject.toml")
    assert checkout.install(prefix, "1.0")[1] == 0
    before = sorted(prefix.rglob("*"))
    (checkout.directory / "launcher").rename(tmp_path / "launcher")
    said, status = checkout.install(prefix, "1.1")
    assert status != 0, said
    assert sorted(prefix.rglob("*")) == before
    assert says(prefix) == ("1.0", "1.0")
