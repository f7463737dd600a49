import errno
import gc
import os

import pytest

from runtime.cgroup import kept
from runtime.cgroup.kept import KeptFile
from runtime.errors import Unavailable
from tests.fakes.loop import open_below


@pytest.fixture
def settled():
    """How many files the process keeps: none of them is left to the garbage collector by an earlier test."""
    gc.collect()
    return kept._kept


def test_a_file_is_read_anew_each_time_by_one_descriptor(tmp_path):
    path = tmp_path / "memory.current"
    path.write_text("1\n")
    before = open_below(tmp_path)
    file = KeptFile(str(path))
    for text in ("1\n", "22\n", "3\n"):
        path.write_text(text)
        assert file.read() == text.encode()
        assert open_below(tmp_path) == before + 1
    file.close()
    file.close()
    assert open_below(tmp_path) == before


@pytest.mark.parametrize("size", [0, 1, kept.FIRST_SIZE - 1, kept.FIRST_SIZE, kept.FIRST_SIZE + 1, 100_000])
def test_a_file_of_any_size_comes_whole(tmp_path, size):
    path = tmp_path / "memory.stat"
    path.write_bytes(text := os.urandom(size))
    file = KeptFile(str(path))
    try:
        assert [file.read(), file.read()] == [text, text]
    finally:
        file.close()


def test_a_file_that_is_forgotten_leaves_no_descriptor(tmp_path, settled):
    (tmp_path / "pids.max").write_text("max\n")
    before = open_below(tmp_path)
    assert KeptFile(str(tmp_path / "pids.max")).read() == b"max\n"
    assert (open_below(tmp_path), kept._kept) == (before, settled)


def test_a_process_keeps_a_limited_number(tmp_path, monkeypatch, settled):
    (tmp_path / "pids.max").write_text("max\n")
    before = open_below(tmp_path)
    monkeypatch.setattr(kept, "KEPT_LIMIT", settled + 2)
    files = [KeptFile(str(tmp_path / "pids.max")) for _ in range(5)]
    assert [file.read() for file in files] == [b"max\n"] * 5
    assert open_below(tmp_path) == before + 2
    files[0].close()
    files[4].read()
    assert open_below(tmp_path) == before + 2  # room that was given back is used again
    for file in files:
        file.close()
    assert open_below(tmp_path) == before


def test_what_is_not_there_may_come(tmp_path):
    file = KeptFile(str(tmp_path / "memory.peak"))
    with pytest.raises(FileNotFoundError):
        file.read()
    (tmp_path / "memory.peak").write_text("7\n")
    assert file.read() == b"7\n"
    file.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_without_a_descriptor_a_file_does_not_count_as_missing(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(kept.os, "open", refuse)
    with pytest.raises(Unavailable, match=r"pids\.max: Too many open files"):
        KeptFile(str(tmp_path / "pids.max")).read()
