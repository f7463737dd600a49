"""Opening a client's FIFO: with the reader there, late, or never."""

import asyncio
import os
from pathlib import Path

import pytest

from runtime.errors import DeadlineExceeded
from shim.task.stdio import fifo
from tests.fakes.loop import in_loop, open_fds, threads, until


@pytest.fixture
def path(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "f")
    return str(tmp_path / "f")


def close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


@in_loop
async def test_a_reader_that_is_there_is_written_to_at_once(path: str):
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fds = await fifo.open_output(path)
    os.write(fds[0], b"x")
    assert os.read(reader, 10) == b"x"
    assert not os.get_blocking(fds[0])
    close(reader, *fds)


@in_loop
async def test_a_reader_that_comes_late_is_waited_for(path: str):
    opening = asyncio.create_task(fifo.open_output(path))
    await until(lambda: threads() > 0)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fds = await opening
    assert not os.get_blocking(fds[0])
    os.write(fds[0], b"x")
    assert os.read(reader, 10) == b"x"
    close(reader, *fds)


@in_loop
async def test_a_client_that_dies_breaks_nothing_and_the_next_finds_the_rest(path: str):
    first = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fds = await fifo.open_output(path)
    os.close(first)
    os.write(fds[0], b"while nobody was there")
    second = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(second, 100) == b"while nobody was there"
    close(*fds)
    assert os.read(second, 100) == b""
    os.close(second)


@pytest.mark.parametrize("removed", [False, True], ids=["there", "removed"])
@in_loop
async def test_nobody_within_the_limit_leaves_no_thread_and_no_descriptor(
    path: str, removed: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fifo, "READER_TIMEOUT_S", 0.1)
    before = open_fds()
    opening = asyncio.create_task(fifo.open_output(path))
    await until(lambda: threads() > 0)
    if removed:  # as a client does that gives up
        os.unlink(path)
    with pytest.raises(DeadlineExceeded, match=r"nobody opened it for reading within 0\.1 s"):
        await opening
    await until(lambda: threads() == 0)
    assert open_fds() == before


@pytest.mark.parametrize("removed", [False, True], ids=["there", "removed"])
@in_loop
async def test_giving_up_leaves_no_thread_and_no_descriptor(path: str, removed: bool):
    before = open_fds()
    opening = asyncio.create_task(fifo.open_output(path))
    await until(lambda: threads() > 0)
    if removed:
        os.unlink(path)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await until(lambda: threads() == 0)
    assert open_fds() == before


@in_loop
async def test_a_plain_file_is_appended_to(tmp_path: Path):
    (tmp_path / "f").write_text("a")
    fds = await fifo.open_output(str(tmp_path / "f"))
    os.write(fds[0], b"b")
    close(*fds)
    assert (tmp_path / "f").read_text() == "ab"


@in_loop
async def test_what_is_not_there_is_an_error_and_is_not_made(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        await fifo.open_output(str(tmp_path / "f"))
    assert os.listdir(tmp_path) == []


def test_input_ends_once_ours_and_the_clients_writers_are_gone(path: str):
    reader, keep_open = fifo.open_input(path)
    client = os.open(path, os.O_WRONLY)
    os.close(client)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    os.close(keep_open)
    assert os.read(reader, 1) == b""
    os.close(reader)
