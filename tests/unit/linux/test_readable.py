"""runtime.linux.readable: a descriptor waited for, with a deadline."""

import os

import pytest

from runtime.linux import readable


@pytest.fixture
def pipe():
    reader, writer = os.pipe2(os.O_CLOEXEC)
    left = [reader, writer]
    yield left
    for fd in left:
        os.close(fd)


def test_what_has_data_is_readable_at_once(pipe):
    assert not readable.within(pipe[0], 0.0)
    os.write(pipe[1], b"x")
    assert readable.within(pipe[0], 0.0)


def test_a_pipe_without_a_writer_is_at_its_end(pipe):
    os.close(pipe.pop())
    assert readable.within(pipe[0], 60.0)


@pytest.mark.parametrize("seconds", [-1.0, 0.001])
def test_a_time_that_is_up_is_no_wait_without_end(pipe, seconds):
    assert not readable.within(pipe[0], seconds)


def test_the_end_of_a_process_is_waited_for():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    fd = os.pidfd_open(pid)
    assert not readable.within(fd, 0.0)
    os.close(writer)
    assert readable.within(fd, 60.0)
    os.close(fd)
    os.waitpid(pid, 0)


def test_a_pipe_has_hung_up_once_no_writer_is_left_though_there_is_something_to_read():
    reader, writer = os.pipe()
    os.write(writer, b"x")
    assert not readable.has_hung_up(reader)
    os.close(writer)
    assert readable.has_hung_up(reader)
    os.close(reader)
