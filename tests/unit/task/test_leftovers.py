"""shim.task.leftovers: what other pods' processes do delays nobody for long."""

import threading

import pytest

from shim.task import leftovers
from tests.fakes.loop import in_loop, threads, until


@in_loop
async def test_processes_that_do_not_answer_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    before, answers, about = threads(), threading.Event(), []
    monkeypatch.setattr(leftovers, "PATIENCE_S", 0.05)
    monkeypatch.setattr(
        leftovers.interrupted, "remove_leftovers", lambda *given, patience_s: about.append(given) or answers.wait()
    )
    await leftovers.remove("/bundle", "c")
    assert "container c: looking at the node's processes takes longer than 0.05s" in caplog.text
    answers.set()
    await until(lambda: threads() == before)
    assert about == [("/bundle", "c")]


@in_loop
async def test_where_no_thread_can_be_started_nothing_is_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*given, patience_s):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(leftovers.interrupted, "remove_leftovers", fail)
    await leftovers.remove("/bundle", "c")
    assert "what its create has left" in caplog.text
