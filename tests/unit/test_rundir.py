"""runtime.rundir without its mount: what is asked of the kernel, and who may read what is written."""

import fcntl
import os
import signal
import stat
from dataclasses import replace

import pytest

from runtime import rundir
from runtime.init.boot import AppProcess, Boot, RunFile
from runtime.linux import syscalls

OURS = (os.geteuid(), os.getegid())
BOOT = Boot(
    "systemd", 37, files=(RunFile("unit", "text"), RunFile("run", "#!", 0o555)), launch=AppProcess(("x",), ("A=1",))
)


def modes(directory):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def test_a_directory_is_a_file_system_of_its_own_bounded_and_roots_alone(tmp_path, monkeypatch):
    mounts = []
    monkeypatch.setattr(rundir.syscalls, "mount", lambda *about: mounts.append(about))
    path = tmp_path / "ns" / "c"
    path.mkdir(parents=True)
    (path / "of an earlier container").touch()
    before = os.umask(0)
    try:
        rundir.make(str(path))
    finally:
        os.umask(before)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    assert mounts == [("pouchrich", str(path), "tmpfs", flags, "size=64m,mode=0700,gid=0")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert list(path.iterdir()) == []


def test_the_launchers_settings_are_the_containers_roots_alone_and_all_files_are_its(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(rundir.os, "fchown", lambda fd, *owner: given.append(owner))
    before = os.umask(0)
    try:
        rundir.fill(str(tmp_path), BOOT, owner=(100_000, 100_001))
    finally:
        os.umask(before)
    assert modes(tmp_path) == {"unit": 0o444, "run": 0o555, rundir.SETTINGS: 0o600}
    assert given == [(100_000, 100_001)] * 3
    rundir.forget_settings(str(tmp_path))
    rundir.forget_settings(str(tmp_path))
    assert modes(tmp_path) == {"unit": 0o444, "run": 0o555}


@pytest.mark.parametrize(("init", "words"), [("systemd", {b"stay", b"pass-on"}), ("busybox", {b"stay"})])
def test_a_launcher_that_stays_passes_on_what_a_systemd_sends(tmp_path, init, words):
    """Others send to the application itself too."""
    rundir.fill(str(tmp_path), replace(BOOT, init=init), stay=True, owner=OURS)
    assert words == {b"stay", b"pass-on"} & set((tmp_path / rundir.SETTINGS).read_bytes().split(b"\0"))


def test_what_is_there_is_never_written_to(tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / "unit").symlink_to("elsewhere")
    with pytest.raises(FileExistsError):
        rundir.fill(str(tmp_path), BOOT, owner=OURS)
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "unit").write_text("program")
    with pytest.raises(FileExistsError):
        rundir.add_programs(str(tmp_path), ["unit"], directory=str(tmp_path / "programs"))
    assert (tmp_path / "elsewhere").read_text() == ""


def test_a_program_is_copied_whole_and_nobody_writes_to_it(tmp_path):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "launch").write_bytes(b"x" * 100_000)
    (tmp_path / "own").mkdir()
    rundir.add_programs(str(tmp_path / "own"), ["launch"], directory=str(tmp_path / "programs"))
    assert modes(tmp_path / "own") == {"launch": 0o555}
    assert (tmp_path / "own" / "launch").stat().st_size == 100_000


def test_a_file_gets_another_text_in_place_so_that_its_binds_show_it(tmp_path):
    file = tmp_path / "unit"
    file.write_text("the one before, which is longer")
    before = file.stat()
    rundir.rewrite(str(tmp_path), "unit", "new \udcff")
    assert file.read_bytes() == b"new \xff"
    assert (file.stat().st_ino, file.stat().st_mode) == (before.st_ino, before.st_mode)


def test_no_link_is_followed_and_no_file_made(tmp_path):
    (tmp_path / "elsewhere").write_text("as it was")
    (tmp_path / "unit").symlink_to(tmp_path / "elsewhere")
    for name in ("unit", "missing"):
        with pytest.raises(OSError, match=r"unit|missing"):
            rundir.rewrite(str(tmp_path), name, "new")
    assert (tmp_path / "elsewhere").read_text() == "as it was"
    assert not (tmp_path / "missing").exists()


def test_a_lease_is_told_of_at_once(tmp_path):
    (tmp_path / "unit").write_text("before")
    with (tmp_path / "unit").open() as file:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGWINCH)  # whose default is to do nothing
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        with pytest.raises(BlockingIOError):
            rundir.rewrite(str(tmp_path), "unit", "new")
    rundir.rewrite(str(tmp_path), "unit", "new")
