"""runtime.inotify: what is left for root, and what is said about it."""

import ctypes
import os
import traceback

import pytest

from pouchrich import checks
from runtime import inotify
from runtime.errors import FailedPrecondition
from tests.fakes.loop import open_fds

CLONE_NEWUSER = 0x10000000


def in_namespace(most, check):
    """Run `check` in a child whose user namespace has `most` instances for each user; whether it went well."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
                os._exit(77)
            with open("/proc/sys/user/max_inotify_instances", "w") as file:
                file.write(str(most))
            check()
            status = 0
        except PermissionError:
            status = 77
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 77:
        pytest.skip("no user namespace with limits of its own")
    return code == 0


@pytest.mark.parametrize("most", [0, 1, 5])
def test_what_is_left_is_the_kernels_word(most):
    def check():
        before = open_fds()
        assert inotify.instances_left(9) == most
        assert inotify.instances_left(most) == most
        assert open_fds() == before

    assert in_namespace(most, check)


def test_too_many_descriptors_of_ones_own_are_not_the_users_limit():
    def check():
        import resource

        open_ones = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_ones + 1, open_ones + 1))
        assert inotify.instances_left(9) == 9

    assert in_namespace(100, check)


def test_a_systemd_that_leaves_nothing_for_the_node_is_warned_about_or_refused():
    enough = inotify.PER_SYSTEMD + inotify.RESERVE
    assert inotify.warn_or_refuse(enough, "refuse", source="x") == ()
    (warning,) = inotify.warn_or_refuse(enough - 1, "warn", source="x")
    assert "fs.inotify.max_user_instances: found 21 instances left for root" in warning
    with pytest.raises(FailedPrecondition, match=r"found 0 instances left for root.*; node.toml: rich.inotify"):
        inotify.warn_or_refuse(0, "refuse", source="node.toml: rich.inotify")


def proc(tmp_path, most, *, instances=0, watches=0):
    """A /proc with one process."""
    for name, value in (("instances", most), ("watches", 1000)):
        path = tmp_path / f"sys/fs/inotify/max_user_{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    for directory in ("fd", "fdinfo"):
        (tmp_path / "7" / directory).mkdir(parents=True)
    (tmp_path / "7/fd/0").symlink_to("/dev/null")
    for number in range(1, instances + 1):
        (tmp_path / f"7/fd/{number}").symlink_to("anon_inode:inotify")
        (tmp_path / f"7/fdinfo/{number}").write_text("pos:\t0\n" + "inotify wd:1 ino:2\n" * watches)
    return str(tmp_path)


def test_doctor_counts_them_against_the_limits(tmp_path):
    instances, watches = checks.watching(proc(tmp_path, 128, instances=28, watches=33))
    assert instances.found.startswith("128, 28 in use: room for 14 more systemd pods")
    assert (instances.level, watches.level) == (checks.WARN, checks.WARN)
    assert "fs.inotify.max_user_instances = 8192" in instances.advice
    assert watches.found == "1000, 924 in use"


def test_doctor_is_content_with_what_the_drop_in_gives(tmp_path):
    instances, watches = checks.watching(proc(tmp_path, inotify.WANTED[inotify.INSTANCES], instances=28, watches=3))
    assert (instances.level, watches.level) == (checks.OK, checks.OK)
    assert instances.advice == ""


def test_descriptors_beyond_the_budget_are_not_looked_at_and_doctor_says_so(tmp_path, monkeypatch):
    top = proc(tmp_path, inotify.WANTED[inotify.INSTANCES], instances=40, watches=1)
    for pid in range(8, 20):  # as if they shared the descriptor table of 7
        (tmp_path / str(pid)).symlink_to("7")
    looked_at = []
    monkeypatch.setattr(inotify, "_DESCRIPTORS", 100)
    monkeypatch.setattr(inotify, "_DESCRIPTORS_OF_ONE", 30)
    monkeypatch.setattr(os, "readlink", lambda path, real=os.readlink: looked_at.append(path) or real(path))
    instances, watches = checks.watching(top)
    assert 80 < len(looked_at) <= 100
    assert len({path.split("/")[-3] for path in looked_at}) == 4  # one process does not hide the others
    assert (instances.level, watches.level) == (checks.WARN, checks.WARN)
    assert ", at least 9" in instances.found
    assert "in use; not all descriptors were counted: room for at most " in instances.found
    assert "/proc/PID/fd" in instances.advice


def test_watches_beyond_the_budget_are_not_read_but_instances_are_counted(tmp_path, monkeypatch):
    top = proc(tmp_path, 128, instances=5, watches=10)
    monkeypatch.setattr(inotify, "_WATCHES_READ", 20)
    assert inotify.used(proc=top) == (5, 20, False)
