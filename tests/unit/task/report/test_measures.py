"""Counting beside the work of a pod server: nothing waits for it, and what a pod says is in no series."""

import asyncio
import fcntl

import pytest

from runtime import measured
from runtime.errors import HookFailed, InvalidArgument, RuntimeFailed
from runtime.rich.plan import Plan
from shim.task.report import measures


@pytest.fixture
def series(tmp_path, monkeypatch):
    root = str(tmp_path / "metrics")
    monkeypatch.setattr(measures, "ROOT", root)
    return lambda: {(one.name, *dict(one.labels).values()): one.total for one in measured.read(root)}


def test_numbers_are_written_when_the_loop_is_at_leisure(series):
    async def work():
        measures.count("restarts_in_place")
        measures.observe_seconds("boot_seconds", 2.0, mode="systemd", outcome="ok")
        assert series() == {}
        await asyncio.sleep(0)
        return series()

    assert asyncio.run(work()) == {("restarts_in_place",): 1.0, ("boot_seconds", "systemd", "ok"): 2.0}


def test_a_lock_that_is_taken_is_tried_again(series, monkeypatch):
    monkeypatch.setattr(measures, "AGAIN_S", 0.01)
    measures.count("restarts_in_place")

    async def work(held):
        measures.count("restarts_in_place")
        await asyncio.sleep(0.05)
        assert len(measures._waiting) == 1
        fcntl.flock(held, fcntl.LOCK_UN)
        async with asyncio.timeout(5):
            while measures._waiting:  # noqa: ASYNC110 - the loop's own timer is what is looked at
                await asyncio.sleep(0.01)

    with open(f"{measures.ROOT}/restarts_in_place") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        asyncio.run(work(held))
    assert series() == {("restarts_in_place",): 2.0}


def test_what_waits_is_bounded_and_a_place_that_cannot_be_written_fails_nothing(series, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(measures, "ROOT", str(tmp_path / "file"))
    for _ in range(1000):
        measures.count("restarts_in_place")
    assert measures._waiting == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidArgument("config.json: annotation pouchrich.io/mode: found evil\nword"), "annotation"),
        (InvalidArgument("config.json: variable rich_mode: found x"), "annotation"),
        (InvalidArgument("/etc/pouchrich/config.toml: version: found 2"), "configuration"),
        (InvalidArgument("start process: exec: no such file"), "spec"),
        (HookFailed("prestart hook evil: x"), "hook"),
        (RuntimeFailed("systemd did not start"), "runtime"),
        (OSError(28, "No space left on device"), "kernel"),
        (asyncio.CancelledError(), "other"),
    ],
)
def test_refusals_are_counted_by_words_of_ours(series, error, reason):
    measures.count_refusal("create", error)
    assert series() == {("refusals", reason, "create"): 1.0}


@pytest.mark.parametrize(
    ("asked", "got", "reason"),
    [("auto", "systemd", ""), ("systemd", "dumb-init", "image"), ("dumb-init", None, "pid-namespace")],
)
def test_fallbacks_are_counted_by_why(series, asked, got, reason):
    measures.count_fallback(asked, Plan(got is not None, got, (), fallback=reason))
    counted = {("fallbacks", asked, got or "plain", reason): 1.0} if reason else {}
    assert series() == counted
