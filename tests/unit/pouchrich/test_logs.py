"""pouchrich logs, and the log in a bundle that it reads."""

import argparse
import json
import os

import pytest

from pouchrich.commands import logs
from runtime import bundle_log, index
from runtime.bundle_log import BundleLog
from tests.unit.pouchrich.nodes import DUMB


def run(capsys, node, *words, sleep=lambda _: None):
    parser = argparse.ArgumentParser()
    logs.add(parser)
    assert logs.run(parser.parse_args(words), root=node.index, sleep=sleep) == 0
    return capsys.readouterr().out


@pytest.fixture
def container(node):
    path = node.bundle("abc", DUMB)
    log = BundleLog(str(path))
    log.write("boot", "", ["boots (0.1 s after Create)"])
    log.write(
        "console", "", ["\x1b[32m  OK  \x1b[0m Started cron\x1b]0;evil\x07", "half\rwhole\x1b[K", "\x1b[2J\u202e"]
    )
    log.write("hook", "fetch", ["prestart: exit status 0", "fetched 3"])
    log.write("agent", "audit", ["hello", "ended with status 1"])
    return node, log


def test_all_is_shown_in_order_and_steers_no_terminal(capsys, container):
    lines = [line.partition(" ")[2] for line in run(capsys, container[0], "abc").splitlines()]
    assert lines == [
        "boot: boots (0.1 s after Create)",
        "console:   OK   Started cron",
        "console: whole",
        "console: \\u202e",
        "hook fetch: prestart: exit status 0",
        "hook fetch: fetched 3",
        "agent audit: hello",
        "agent audit: ended with status 1",
    ]


def test_sources_and_the_tail_choose(capsys, container):
    node, _ = container
    assert run(capsys, node, "abc", "--hooks", "--tail", "1").endswith("hook fetch: fetched 3\n")
    assert [one.split()[1] for one in run(capsys, node, "abc", "--boot", "--agents").splitlines()] == [
        *["boot:"],
        *["agent"] * 2,
    ]
    assert run(capsys, node, "abc", "--tail", "0") == ""


def test_json_is_an_object_a_line(capsys, container):
    found = [json.loads(line) for line in run(capsys, container[0], "abc", "--json").splitlines()]
    assert set(found[0]) == {"version", "at", "source", "name", "text"}
    assert (found[4]["source"], found[4]["name"], found[4]["text"]) == ("hook", "fetch", "prestart: exit status 0")


def test_following_ends_with_the_container(capsys, container):
    node, log = container
    steps = iter(
        [lambda: log.write("agent", "audit", ["more"]), lambda: index.unregister("k8s.io", "abc", root=node.index)]
    )
    out = run(capsys, node, "abc", "--follow", "--tail", "1", sleep=lambda _: next(steps)())
    assert [line.partition(": ")[2] for line in out.splitlines()] == ["ended with status 1", "more"]


def test_following_repeats_no_line_that_is_there_twice(capsys, container):
    """Lines of one write have one time, so equal texts are equal lines."""
    node, log = container
    steps = iter(
        [
            lambda: log.write("agent", "audit", ["tick", "tick"]),
            lambda: None,
            lambda: log.write("agent", "audit", ["tock"]),
            lambda: index.unregister("k8s.io", "abc", root=node.index),
        ]
    )
    out = run(capsys, node, "abc", "--follow", "--tail", "0", sleep=lambda _: next(steps)())
    assert [line.partition(": ")[2] for line in out.splitlines()] == ["tick", "tick", "tock"]


@pytest.mark.parametrize("halves", [1, 2])
def test_a_log_that_becomes_full_while_it_is_read_is_read_once(tmp_path, monkeypatch, halves):
    log, file = BundleLog(str(tmp_path)), str(tmp_path / bundle_log.FILE)
    log.write("agent", "audit", ["old"])
    if halves == 2:
        os.rename(file, f"{file}.1")
    log.write("agent", "audit", ["new"])
    times = iter([True])

    def opens(path, mode):
        try:
            return open(path, mode)
        finally:
            if next(times, False):
                os.rename(file, f"{file}.1")

    monkeypatch.setattr(bundle_log, "open", opens, raising=False)
    texts = [one["text"] for one in bundle_log.read(str(tmp_path))]
    assert texts in (["old", "new"], ["new"] if halves == 2 else None)


def test_following_goes_on_where_it_was_cut_among_equal_lines():
    one, two = {"text": "tick"}, {"text": "tock"}
    assert logs._after([two, one, one], [two, one]) == [one]
    assert logs._after([one, one, two], [two, one, one]) == [two]
    assert logs._after([two], [one]) == [two]
    assert logs._after([one], []) == [one]


def test_a_log_is_bounded_and_the_last_is_kept(tmp_path):
    log = BundleLog(str(tmp_path))
    for number in range(3000):
        log.write("agent", "chatty", [f"line {number} {'x' * 100}"])
    sizes = [(tmp_path / name).stat().st_size for name in os.listdir(tmp_path)]
    assert sum(sizes) <= 2 * bundle_log.HALF_BYTES + 1024
    texts = [one["text"].split()[1] for one in bundle_log.read(str(tmp_path))]
    assert texts[-1] == "2999"
    assert texts == [str(number) for number in range(int(texts[0]), 3000)]
    assert (tmp_path / bundle_log.FILE).stat().st_mode & 0o777 == 0o600


def test_one_write_that_is_larger_than_the_file_may_be_is_cut(tmp_path):
    BundleLog(str(tmp_path)).write("console", "", ["y" * 500] * 1000)
    assert sum((tmp_path / name).stat().st_size for name in os.listdir(tmp_path)) <= bundle_log.HALF_BYTES
    assert {one["text"] for one in bundle_log.read(str(tmp_path))} == {"y" * 500}


def test_what_cannot_be_written_or_read_does_no_harm(tmp_path):
    BundleLog(str(tmp_path / "gone")).write("boot", "", ["x"])
    assert list(bundle_log.read(str(tmp_path / "gone"))) == []
    (tmp_path / bundle_log.FILE).write_text(
        '{"at": 1, "so\n[1]\n{"at": 1, "source": "boot", "name": "", "text": "t"}\n'
    )
    assert [one["text"] for one in bundle_log.read(str(tmp_path))] == ["t"]
