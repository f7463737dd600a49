import fcntl
import os
import shutil
import subprocess

import pytest

from runtime.oci import sealed

ECHO, FALSE = (shutil.which(name) for name in ("echo", "false"))


@pytest.fixture(autouse=True)
def nothing_sealed(monkeypatch):
    monkeypatch.setattr(sealed, "_sealed", {})
    before = set(os.listdir("/proc/self/fd"))
    yield
    for fd in sealed.descriptors():
        os.close(fd)
    assert set(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
def binary(tmp_path):
    path = str(tmp_path / "crun")
    shutil.copy(ECHO, path)
    return path


def test_the_copy_is_run_under_the_program_s_name(binary):
    sealed.seal(binary)
    copy = sealed.program(binary)
    (fd,) = sealed.descriptors()
    assert copy == f"/proc/self/fd/{fd}"
    assert subprocess.check_output([binary, "one"], executable=copy, pass_fds=[fd]) == b"one\n"


def test_the_copy_is_sealed_as_crun_wants_it_and_closed_in_what_is_executed(binary):
    sealed.seal(binary)
    (fd,) = sealed.descriptors()
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == 0x1 | 0x2 | 0x4 | 0x8
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)


def test_a_program_that_was_replaced_since_is_run_itself(binary):
    sealed.seal(binary)
    os.rename(shutil.copy(ECHO, f"{binary}.new"), binary)
    assert sealed.program(binary) == binary
    os.unlink(binary)
    assert sealed.program(binary) == binary


def test_another_program_is_run_itself(binary):
    sealed.seal(binary)
    assert sealed.program("/usr/sbin/runc") == "/usr/sbin/runc"


def test_a_script_is_not_copied(tmp_path):
    script = tmp_path / "crun"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(OSError, match="crun: not an ELF file"):
        sealed.seal(str(script))
    assert sealed.program(str(script)) == str(script)


def test_what_does_not_run_from_memory_is_not_run_from_there(tmp_path):
    path = shutil.copy(FALSE, tmp_path / "crun")
    with pytest.raises(OSError, match="crun: 1 when run from memory"):
        sealed.seal(str(path))
    assert sealed.descriptors() == ()
