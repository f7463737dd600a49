import errno
import fcntl
import os
import shutil
import signal
import subprocess
from contextlib import suppress

import pytest

from runtime.oci import readonly_exec

ECHO, FALSE = (shutil.which(name) for name in ("echo", "false"))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch):
    monkeypatch.setattr(readonly_exec, "_held", {})
    before = set(os.listdir("/proc/self/fd"))
    yield
    for fd in readonly_exec.descriptors():
        os.close(fd)
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def binary(tmp_path):
    path = str(tmp_path / "crun")
    shutil.copy(ECHO, path)
    return path


def held(path):
    readonly_exec.mount_readonly(path)
    (fd,) = readonly_exec.descriptors()
    return fd


def test_the_program_is_run_under_its_name(binary):
    fd = held(binary)
    assert readonly_exec.executable(binary) == f"/proc/self/fd/{fd}"
    assert (
        subprocess.check_output([binary, "one"], executable=readonly_exec.executable(binary), pass_fds=[fd]) == b"one\n"
    )
    assert not os.get_inheritable(fd)


def test_the_mount_is_one_that_runtimes_take_for_safe(binary):
    fd = held(binary)
    assert os.fstatvfs(fd).f_flag & os.ST_RDONLY


@pytest.mark.parametrize(
    "attack",
    [
        lambda path, fd: os.open(path, os.O_RDWR),
        lambda path, fd: os.open(path, os.O_WRONLY | os.O_TRUNC),
        lambda path, fd: os.chmod(path, 0),
        lambda path, fd: os.fchmod(fd, 0),
        lambda path, fd: os.fchown(fd, 1000, 1000),
        lambda path, fd: os.setxattr(fd, "user.x", b""),
        lambda path, fd: os.utime(fd),
        lambda path, fd: os.truncate(path, 0),
    ],
)
def test_who_has_it_open_changes_nothing_and_holds_nobody_up(binary, attack):
    """As root, as what is executed is opened by way of /proc/PID/exe."""
    path = f"/proc/self/fd/{held(binary)}"
    opened = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Read-only file system"):
            attack(path, opened)
        assert subprocess.check_output([binary, "one"], executable=path, close_fds=False) == b"one\n"
    finally:
        os.close(opened)


@pytest.mark.parametrize("kind", [fcntl.F_WRLCK, fcntl.F_RDLCK])
def test_no_lease_on_it_holds_up_who_executes_it(binary, kind):
    """Of root in a container, which has the file's owner's number, and a descriptor left from what ran there."""
    path = f"/proc/self/fd/{held(binary)}"
    opened = os.open(path, os.O_RDONLY)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with suppress(BlockingIOError):  # "somebody else has it open"
            fcntl.fcntl(opened, fcntl.F_SETLEASE, kind)
            assert kind == fcntl.F_RDLCK
        answer = subprocess.check_output([binary, "one"], executable=path, close_fds=False, timeout=5)
        assert answer == b"one\n"
    finally:
        os.close(opened)
        signal.signal(signal.SIGIO, before)


def test_a_program_that_was_replaced_since_is_run_itself(binary):
    held(binary)
    assert readonly_exec.are_unchanged()
    os.rename(shutil.copy(ECHO, f"{binary}.new"), binary)
    assert readonly_exec.executable(binary) == binary
    assert not readonly_exec.are_unchanged()


def test_a_program_that_was_uninstalled_since_still_serves_what_was_made_with_it(binary):
    fd = held(binary)
    os.unlink(binary)
    path = readonly_exec.executable(binary)
    assert subprocess.check_output([binary, "one"], executable=path, pass_fds=[fd]) == b"one\n"
    assert not readonly_exec.are_unchanged()  # the spawner ends, and the next one holds what is then installed


def test_another_program_is_run_itself(binary):
    held(binary)
    assert readonly_exec.executable("/usr/sbin/other") == "/usr/sbin/other"


def test_a_program_is_held_once(binary):
    fd = held(binary)
    assert held(binary) == fd


def test_a_script_is_not_held(tmp_path):
    script = tmp_path / "crun"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(OSError, match="crun: not an ELF file"):
        readonly_exec.mount_readonly(str(script))
    assert readonly_exec.executable(str(script)) == str(script)


def test_what_does_not_run_from_there_is_not_held(tmp_path):
    path = shutil.copy(FALSE, tmp_path / "crun")
    with pytest.raises(OSError, match="crun: exit status 1 of --version"):
        readonly_exec.mount_readonly(str(path))
    assert readonly_exec.descriptors() == ()


def test_what_hangs_is_not_held(tmp_path, monkeypatch):
    monkeypatch.setattr(readonly_exec, "TRY_TIMEOUT_S", 0.2)
    source = tmp_path / "hang.c"
    source.write_text("#include <unistd.h>\nint main(void) { pause(); return 0; }\n")
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    subprocess.run(["cc", "-o", tmp_path / "crun", source], check=True)
    with pytest.raises(OSError, match="exit status -9"):
        readonly_exec.mount_readonly(str(tmp_path / "crun"))


def test_what_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError) as missing:
        readonly_exec.mount_readonly(str(tmp_path / "crun"))
    assert missing.value.errno == errno.ENOENT
