"""pouchrich.series: every series that the shim can count is known before it counts it, and its words are documented."""

import itertools
import re
from pathlib import Path

import pytest

from pouchrich import series
from runtime.errors import HookFailed, InvalidArgument, RuntimeFailed, Unsupported
from runtime.hooks import environment
from runtime.init import INIT_MODES
from runtime.rich.plan import Plan
from shim.task.report import measures, reasons

OPERATIONS = Path(__file__).parents[3] / "docs/operations.md"


@pytest.fixture
def counted(monkeypatch):
    """The series that were counted, each as its name and its labels' values in the order of their names."""
    found = []
    monkeypatch.setattr(
        measures, "count", lambda name, **labels: found.append((name, tuple(labels[key] for key in sorted(labels))))
    )
    return found


def test_every_end_is_known():
    ends = [
        *(environment.ending(status, oom_killed=killed) for status in (0, 1, 137) for killed in (False, True)),
        environment.NEVER_STARTED,
        environment.SHIM_KILLED,
    ]
    assert set(series.combinations("exits")) == set(itertools.product(INIT_MODES, {one.reason for one in ends}))


def test_every_refusal_is_known(counted):
    texts = ("config.json: annotation x", "config.json: variable x", "config.json: x", "start process: x", "/etc/x: y")
    errors = (*map(InvalidArgument, texts), HookFailed(), RuntimeFailed(), Unsupported(), OSError(), ValueError())
    for stage, error in itertools.product(("create", "start"), errors):
        measures.count_refusal(stage, error)
    assert {labels for _, labels in counted} == set(series.combinations("refusals"))


def test_every_fallback_is_known(counted):
    """Of another mode than the one asked for, or of none where the container shares a PID namespace or has an init."""
    for reason in reasons.FALLBACK_REASONS:
        plain = reason in ("pid-namespace", "image-init")
        for asked in (*INIT_MODES, "auto") if plain else ("systemd", "sbin-init", "auto"):
            _count(asked, None if plain else "dumb-init", reason)
    for asked, got in itertools.permutations(INIT_MODES, 2):
        if got != "dumb-init":
            _count(asked, got, "image-init")
    assert {labels for _, labels in counted} == set(series.combinations("fallbacks"))


def _count(asked, got, reason):
    measures.count_fallback(asked, Plan(got is not None, got, (), fallback=reason))


@pytest.mark.parametrize("name", series.LABELS)
def test_a_combination_has_a_value_for_each_label(name):
    found = list(series.combinations(name))
    assert found
    assert len(set(found)) == len(found) <= 32
    assert {len(one) for one in found} == {len(series.LABELS[name])}


def test_the_words_of_reasons_are_documented():
    """Each once, in the sentences about them, and no others."""
    text = " ".join(OPERATIONS.read_text().split())
    for metric, words in (
        ("pouchrich_refusals_total", reasons.REFUSAL_REASONS),
        ("pouchrich_fallbacks_total", reasons.FALLBACK_REASONS),
    ):
        (told,) = re.findall(rf"The `reason` of `{metric}` is (.*?)\. ", text)
        assert sorted(re.findall(r"`([a-z-]+)`", told)) == sorted(words)
