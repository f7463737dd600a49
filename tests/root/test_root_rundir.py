"""The run directory of a container on a real kernel: who gets in, what is reached from it, and that it goes again."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime import index, libexec, paths, rundir
from runtime.errors import text_of
from runtime.init.boot import Boot, RunFile
from runtime.linux import mountinfo, syscalls
from tests.root.handles import handle_of, opens

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"
GROUP = 4242


@pytest.fixture
def in_run(isolated):
    """Run a function with an empty /run, where a program `prog` is in /run/libexec."""

    def run(action):
        def inside():
            syscalls.mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
            os.makedirs("/run/pouchrich", 0o711)
            os.mkdir("/run/libexec")
            Path("/run/libexec/prog").write_bytes(Path("/bin/true").read_bytes())
            action()

        isolated(inside)

    return run


def made(name="c", *, group=0):
    path = rundir.path_of("k8s.io", name)
    rundir.make(path, group=group)
    rundir.add_programs(path, ["prog"], directory="/run/libexec")
    return path


def mode(path):
    found = os.stat(path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def may(path, *, gid):
    """Whether a host user of that group can list the directory, and read the file `env` in it."""
    commands = (["ls", path], ["cat", f"{path}/env"])
    found = [subprocess.run(one, user=1234, group=gid, extra_groups=[], capture_output=True) for one in commands]
    return [one.returncode == 0 for one in found]


def test_host_users_neither_enter_nor_list_it_whatever_their_group(in_run):
    """A pod's gid is any number, and may well be that of a user of the node."""

    def action():
        path = made()
        rundir.fill(path, Boot("systemd", 1, files=(RunFile("env", "SECRET=1", 0o640),)))
        os.chown(f"{path}/env", 0, GROUP)
        assert mode(path) == (0o700, 0, 0)
        for above in (paths.CONTAINERS, f"{paths.CONTAINERS}/k8s.io"):
            assert mode(above) == (0o711, 0, 0)
            assert not may(above, gid=GROUP)[0]
        assert may(path, gid=GROUP) == [False, False]

    in_run(action)


def test_the_root_of_a_user_namespace_passes_through_and_changes_nothing(in_run):
    def action():
        path = made(group=GROUP)
        rundir.fill(path, Boot("systemd", 1, files=(RunFile("env", "SECRET=1", 0o640),)), owner=(GROUP, GROUP))
        assert mode(path) == (0o710, 0, GROUP)
        assert may(path, gid=GROUP) == [False, True]
        assert may(path, gid=GROUP + 1) == [False, False]
        assert mode(f"{path}/prog") == (0o555, 0, 0)

    in_run(action)


def test_it_is_a_file_system_of_its_own_and_goes_with_all_that_is_on_it(in_run):
    def action():
        path = made()
        (one,) = [entry for entry in mountinfo.read() if entry.mount_point == path]
        assert (one.fstype, one.root) == ("tmpfs", "/")
        assert os.statvfs(path).f_flag & (os.ST_NOSUID | 4) == os.ST_NOSUID | 4  # 4: nodev
        assert os.stat(path).st_dev not in (os.stat("/run").st_dev, os.stat(made("other")).st_dev)
        Path(path, "file").write_text("x")
        with open(f"{path}/file"):  # a container's mounts of it may outlive it for a while
            rundir.remove(path)
        assert not os.path.exists(path)
        assert [entry for entry in mountinfo.read() if entry.mount_point == path] == []
        rundir.remove(path)

    in_run(action)


def test_what_an_earlier_container_left_is_replaced(in_run):
    """Also one of a release whose run directories were directories, and one with a mount more."""

    def action():
        path = rundir.path_of("k8s.io", "c")
        os.makedirs(f"{path}/below", 0o711)
        made()
        syscalls.mount("tmpfs", path, "tmpfs")
        Path(path, "old").write_text("x")
        made()
        assert os.listdir(path) == ["prog"]
        assert len([entry for entry in mountinfo.read() if entry.mount_point == path]) == 1

    in_run(action)


@pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="SELinux takes only labels that it knows")
def test_it_has_the_containers_label(in_run):
    def action():
        path = rundir.path_of("k8s.io", "c")
        rundir.make(path, label=LABEL)
        assert os.getxattr(path, "security.selinux") == LABEL.encode()
        rundir.make(path)
        assert os.listxattr(path) == []

    in_run(action)


@contextmanager
def lease(path):
    """A lease for writing, as only a file's owner or CAP_LEASE gets one, and only while nobody else has it open."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with open(path, "rb") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            yield
    finally:
        signal.signal(signal.SIGIO, before)


def runs(program):
    return subprocess.run(["timeout", "2", program]).returncode == 0


def test_a_lease_in_one_container_holds_up_no_program_in_another(in_run):
    def action():
        one, other = made("one"), made("other")
        with lease(f"{one}/prog"):
            assert runs(f"{other}/prog")
            assert not runs(f"{one}/prog"), "no lease is in force"

    in_run(action)


def test_by_a_handle_nothing_is_reached_from_it_that_is_not_its_own(in_run):
    """With CAP_DAC_READ_SEARCH, from a bind of a program, which is what a container has."""

    def action():
        path, other = made("one"), made("other")
        Path(other, "app").write_text("another container's secrets")
        Path("/run/secret").write_text("the node's")
        handles = [handle_of(one) for one in ("/run/secret", "/run/libexec/prog", f"{other}/app")]
        own = handle_of(f"{path}/prog")
        Path("/run/target").touch()
        for source, reaches in (("/run/libexec/prog", True), (f"{path}/prog", False)):
            syscalls.mount(source, "/run/target", None, syscalls.MS_BIND)
            assert opens("/run/target", handles[0]) is reaches
            assert not opens("/run/target", handles[2])
            assert opens("/run/target", own) is not reaches
            syscalls.umount2("/run/target")

    in_run(action)


def test_a_program_that_is_not_there_is_named(in_run):
    def action():
        path = rundir.path_of("k8s.io", "c")
        rundir.make(path)
        with pytest.raises(FileNotFoundError, match="/run/libexec/none"):
            rundir.add_programs(path, ["none"], directory="/run/libexec")
        rundir.add_programs(path, ["launch"])
        assert Path(path, "launch").read_bytes() == Path(libexec.path("launch")).read_bytes()

    in_run(action)


def test_within_a_rich_container_of_another_shim_the_error_names_the_reason_and_the_way_out(in_run):
    """The outer shim's files are there, read-only, where a containerd inside would have its own."""

    def inner():
        syscalls.mount("outer", "/run/pouchrich", "tmpfs", syscalls.MS_RDONLY)
        with pytest.raises(OSError, match="Read-only") as failed:
            index.register("default", "c", "/run/bundle")
        assert failed.value.errno == errno.EROFS
        said = text_of(failed.value)
        assert said.startswith(f"{paths.BUNDLES}: Read-only file system"), said
        assert "a rich container" in said
        assert "BindPaths" in said

    in_run(inner)
