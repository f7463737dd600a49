"""runtime.linux.seen: a directory is another one for a process that has another root, whatever leads there."""

import os

import pytest

from runtime.linux.seen import is_seen

OWN = str(os.getpid())


@pytest.fixture
def proc(tmp_path):
    """A /proc in which process 1 has the root directory `rootfs`."""
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "proc/1/root").symlink_to(tmp_path / "rootfs")
    return tmp_path / "proc"


def test_this_process_sees_what_there_is(tmp_path):
    assert is_seen(OWN, str(tmp_path))
    assert is_seen(OWN, "/")
    assert not is_seen(OWN, str(tmp_path / "absent"))


def test_one_that_has_ended_sees_nothing():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert not is_seen(str(child), "/")
    os.waitpid(child, 0)
    assert not is_seen(str(child), "/")


@pytest.mark.parametrize("has", ["nothing", "a directory", "an absolute link"])
def test_one_with_another_root_sees_neither_that_nor_anything_below_it(proc, tmp_path, has):
    home = tmp_path / "home"
    home.mkdir()
    there = tmp_path / "rootfs" / str(home).lstrip("/")
    there.parent.mkdir(parents=True)
    if has == "a directory":
        there.mkdir()
    elif has == "an absolute link":
        there.symlink_to(home)
    assert not is_seen("1", str(home), proc=str(proc))
    assert not is_seen("1", "/", proc=str(proc))


def test_what_cannot_be_told_is_taken_for_seen(proc):
    (proc / "1/root").unlink()
    (proc / "1/root").write_text("no directory, as nobody else's may be opened")
    assert is_seen("1", "/", proc=str(proc))
