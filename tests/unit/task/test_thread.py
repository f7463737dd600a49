"""Blocking calls beside the event loop."""

import asyncio
import errno
import threading

import pytest

from shim.task import thread
from shim.task.thread import in_thread
from tests.fakes.loop import in_loop, threads, until


@in_loop
async def test_the_result_and_the_error_come_back():
    assert await in_thread(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


@in_loop
async def test_the_loop_goes_on_meanwhile_and_the_thread_ends_with_its_call():
    await until(lambda: threads() == 0)  # an earlier test's may still be going
    end = threading.Event()
    waiting = in_thread(end.wait)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert threads() == 1
    end.set()
    assert await waiting is True
    await until(lambda: threads() == 0)


@in_loop
async def test_a_wait_that_is_given_up_does_not_stop_the_call():
    done = []
    end = threading.Event()
    waiting = in_thread(lambda: (end.wait(), done.append(True)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    end.set()
    await until(lambda: done == [True])
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("failures", [1, 3])
@in_loop
async def test_a_thread_that_cannot_be_started_yet_is_started_later(monkeypatch: pytest.MonkeyPatch, failures: int):
    left = [RuntimeError("can't start new thread")] * failures
    start = thread.start_new_thread

    def started(*words: object) -> int:
        if left:
            raise left.pop()
        return start(*words)  # type: ignore[call-overload]

    monkeypatch.setattr(thread, "start_new_thread", started)
    monkeypatch.setattr(thread, "PAUSE_S", 0.001)
    assert await in_thread(lambda: 42) == 42


@in_loop
async def test_where_no_thread_can_be_started_the_call_fails_and_not_its_caller(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(thread, "start_new_thread", refuse)
    monkeypatch.setattr(thread, "PAUSE_S", 0.001)
    waiting = in_thread(lambda: 42)
    with pytest.raises(OSError, match="thread") as raised:
        await waiting
    assert raised.value.errno == errno.EAGAIN
