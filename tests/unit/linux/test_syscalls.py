import errno
import os
import signal

import pytest

from runtime.linux import syscalls


@pytest.fixture
def root(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "file").write_text("in")
    (tmp_path / "up").symlink_to("../../../../inside")
    (tmp_path / "absolute").symlink_to("/inside/file")
    (tmp_path / "outside").symlink_to("/proc/version")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("path", ["inside/file", "/inside/file", "../../inside/file", "up/file", "absolute"])
def test_openat2_resolves_everything_below_its_root(root, path):
    fd = syscalls.openat2(root, path, os.O_RDONLY)
    try:
        assert os.read(fd, 10) == b"in"
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_openat2_does_not_follow_a_link_out_of_its_root(root):
    with pytest.raises(FileNotFoundError):
        syscalls.openat2(root, "outside", os.O_RDONLY)


def test_errors_carry_errno_and_name_operation_and_path(root):
    with pytest.raises(FileNotFoundError) as caught:
        syscalls.openat2(root, "no/such", os.O_PATH)
    assert str(caught.value) == "[Errno 2] No such file or directory: 'openat2: no/such'"


@pytest.mark.parametrize(
    "call",
    [
        lambda: syscalls.mount("none", "/a\0b", "tmpfs"),
        lambda: syscalls.umount2("/a\0b"),
        lambda: syscalls.openat2(syscalls.AT_FDCWD, "/a\0b", os.O_PATH),
        lambda: syscalls.set_name("a\0b"),
    ],
)
def test_a_nul_is_an_error_rather_than_the_end_of_the_path(call):
    with pytest.raises(OSError, match="Invalid argument") as caught:
        call()
    assert caught.value.errno == errno.EINVAL


def test_inotify_reports_a_change(tmp_path):
    watched = tmp_path / "f"
    watched.write_text("")
    fd = syscalls.inotify_init1()
    try:
        syscalls.inotify_add_watch(fd, watched, syscalls.IN_MODIFY)
        with pytest.raises(BlockingIOError):
            os.read(fd, 4096)
        watched.write_text("x")
        assert os.read(fd, 4096)
    finally:
        os.close(fd)


def in_child(action):
    """The exit status of a forked child that ran `action`; what it changed about itself dies with it."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if action() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_set_name_shows_in_comm_and_is_cut_at_15_bytes():
    def rename():
        syscalls.set_name("pouchrich-spawner")
        with open("/proc/self/comm") as comm:
            return comm.read() == "pouchrich-spawn\n"

    assert in_child(rename) == 0


def test_an_orphan_goes_to_the_subreaper_and_not_to_pid_1():
    def adopt():
        syscalls.set_child_subreaper()
        middle = os.fork()
        if middle == 0:
            if os.fork() == 0:
                signal.pause()
            os._exit(0)
        os.waitpid(middle, 0)
        with open("/proc/thread-self/children") as listing:
            children = listing.read().split()
        os.kill(int(children[0]), signal.SIGKILL)
        return len(children) == 1 and os.waitpid(-1, 0)[0] == int(children[0])

    assert in_child(adopt) == 0
