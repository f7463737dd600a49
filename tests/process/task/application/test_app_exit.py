import asyncio
import errno
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager

import pytest

from runtime.linux import pidfd
from shim.task.application.adopt import Adopted
from shim.task.application.app_exit import ApplicationExit, ExitStatusSource, exit_status_source
from shim.task.report import log_fields

WAITS = "import os, sys; sys.stdin.read(); "


@contextmanager
def watched(script, manner):
    """A process of that script, the watching of its exit, and the far end of its connection."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    child = subprocess.Popen([sys.executable, "-S", "-c", WAITS + script], stdin=subprocess.PIPE)
    adopted = Adopted(child.pid, pidfd.open(child.pid), ours)
    watching = ApplicationExit("c", adopted, manner, asyncio.get_running_loop())
    try:
        yield child, watching, theirs
    finally:
        watching.close()
        adopted.close()
        theirs.close()
        child.kill()
        child.communicate()


@pytest.mark.parametrize(("script", "status"), [("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)])
def test_by_pidfd_a_status_is_known_before_anybody_reaps(script, status):
    async def play():
        with watched(script, ExitStatusSource.PIDFD_INFO) as (child, watching, _):
            child.stdin.close()
            async with asyncio.timeout(10):
                assert await watching.wait() == status
                assert await watching.wait() == status

    asyncio.run(play())


def lines(caplog):
    """What was logged, each with the container that the fields of the line name."""
    return [
        (record.getMessage(), log_fields.fields_for(record.msg, record.args).get("container"))
        for record in caplog.records
    ]


def test_a_look_that_there_is_no_descriptor_for_is_taken_again(monkeypatch, caplog):
    async def play():
        with watched("os._exit(7)", ExitStatusSource.PIDFD_INFO) as (child, watching, _):
            real, failures = pidfd.zombie_status, [OSError(errno.EMFILE, "Too many open files")]

            def short(fd):
                if failures:
                    raise failures.pop()
                return real(fd)

            monkeypatch.setattr(pidfd, "zombie_status", short)
            child.stdin.close()
            async with asyncio.timeout(10):
                assert await watching.wait() == 7
            assert not failures
            line = f"container c: how its application, pid {child.pid}, ended: [Errno 24] Too many open files"
            assert lines(caplog) == [(line, "c")]

    asyncio.run(play())


def test_a_wait_may_be_cancelled_without_harm():
    async def play():
        with watched("os._exit(3)", ExitStatusSource.PIDFD_INFO) as (child, watching, _):
            waiting = asyncio.ensure_future(watching.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            child.stdin.close()
            assert await watching.wait() == 3

    asyncio.run(play())


def test_a_staying_parent_reports():
    async def play():
        with watched("", ExitStatusSource.LAUNCHER_PARENT) as (child, watching, parent):
            child.stdin.close()
            child.wait()
            waiting = asyncio.ensure_future(watching.wait())
            await asyncio.sleep(0)
            assert not waiting.done()
            parent.send(struct.pack("i", 42 << 8))
            async with asyncio.timeout(10):
                assert await waiting == 42

    asyncio.run(play())


@pytest.mark.parametrize("said", [b"", b"xy", struct.pack("i", 0x137F)])
def test_a_parent_that_ends_without_a_word_counts_as_killed(said, caplog):
    async def play():
        with watched("", ExitStatusSource.LAUNCHER_PARENT) as (child, watching, parent):
            parent.send(said)
            parent.close()
            child.stdin.close()
            async with asyncio.timeout(10):
                assert await watching.wait() == 137
            pid = child.pid
            ended = f"container c: the launcher of its application, pid {pid}, ended without an exit status to report"
            assert lines(caplog) == ([(ended, "c")] if len(said) < 4 else [])

    asyncio.run(play())


def test_a_status_lost_with_init_counts_as_killed(caplog):
    async def play():
        with watched("", ExitStatusSource.LAUNCHER_PARENT) as (child, watching, _parent):
            watching.settle()
            assert await watching.wait() == 137
            line = f"container c: the exit status of its application, pid {child.pid}, was lost with its init"
            assert lines(caplog) == [(line, "c")]

    asyncio.run(play())


def test_settling_asks_once_more():
    async def play():
        with watched("os._exit(5)", ExitStatusSource.PIDFD_INFO) as (child, watching, _):
            child.communicate()
            watching.settle()
            assert await watching.wait() == 5

    asyncio.run(play())


def test_closing_lets_go_of_who_waits():
    async def play():
        with watched("", ExitStatusSource.PIDFD_INFO) as (_, watching, _parent):
            waiting = asyncio.ensure_future(watching.wait())
            await asyncio.sleep(0)
            watching.close()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(play())


def test_the_manner_is_pidfd_wherever_the_kernel_keeps_a_status():
    assert (exit_status_source() is ExitStatusSource.PIDFD_INFO) == pidfd.supports_exit_info()
