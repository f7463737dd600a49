"""Blocking calls beside the event loop."""

import asyncio
import errno
import threading

import pytest

from runtime.errors import FailedPrecondition
from shim.task import thread
from shim.task.thread import answered, in_thread
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


@in_loop
async def test_what_does_not_answer_costs_one_thread_however_often_it_is_asked():
    before, answers = threads(), threading.Event()
    with pytest.raises(FailedPrecondition, match=r"the files did not answer for 0\.05 s: does its file system hang\?"):
        await asyncio.gather(*(answered(answers.wait, what="the files", patience_s=0.05) for _ in range(2)))
    for _ in range(3):
        with pytest.raises(FailedPrecondition, match="the files still did not answer"):
            await answered(answers.wait, what="the files", patience_s=0.05)
        assert await answered(lambda: 1, what="the files", patience_s=5, of=7) == 1
    await until(lambda: threads() == before + 2)
    answers.set()
    await until(lambda: threads() == before)
    await until(lambda: not thread._unanswered)
    assert await answered(lambda: 2, what="the files", patience_s=5) == 2
