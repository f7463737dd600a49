import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.task.report.lines import BURST, LINE_BYTES, LineFilter, printable
from shim.task.rich.agent_log import AgentLog
from tests.fakes.loop import in_loop, until


class Time:
    def __init__(self):
        self.at = 0.0

    def __call__(self):
        return self.at


@given(st.lists(st.binary(max_size=8), max_size=8), st.integers(0, 64))
def test_lines_are_the_same_however_they_arrive(lines, cut):
    data = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    whole, parts = LineFilter(Time()), LineFilter(Time())
    assert parts.feed(data[:cut]) + parts.feed(data[cut:]) == whole.feed(data)


def test_a_line_that_has_no_end_yet_waits_for_it():
    lines = LineFilter(Time())
    assert lines.feed(b"a\nb") == ["a"]
    assert lines.feed(b"c\n") == ["bc"]


def test_a_line_that_never_ends_is_cut_once_and_costs_no_memory():
    lines = LineFilter(Time())
    passed = [one for _ in range(100) for one in lines.feed(b"x" * 1000)]
    assert passed == ["x" * LINE_BYTES]
    assert lines.feed(b"x\nnext\n") == ["next"]


def test_a_flood_is_cut_to_the_burst_and_what_is_left_out_is_counted():
    time = Time()
    lines = LineFilter(time)
    assert len(lines.feed(b"x\n" * 1000)) == BURST
    time.at = 1.0
    assert lines.feed(b"y\n" * 10) == ["(950 lines left out)", "y", "y", "y", "y", "y"]


def test_a_flood_that_comes_in_parts_is_counted_line_by_line():
    time = Time()
    lines = LineFilter(time)
    lines.feed(b"x\n" * BURST + b"cut ")
    assert lines.feed(b"off\n" + b"x\n" * 99 + b"y") == []
    time.at = 1.0
    assert lines.feed(b"z\n") == ["(100 lines left out)", "yz"]


@pytest.mark.parametrize(
    ("line", "shown"), [(b"\x1b[2J", "\\x1b[2J"), (b"\xff", "\\xff"), ("é".encode(), "é"), (b"a\tb\r", "a\\x09b")]
)
def test_a_line_cannot_steer_a_terminal(line, shown):
    assert printable(line) == shown


@in_loop
async def test_what_is_written_is_logged_under_the_agents_name():
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("shim.task.rich.agent_log")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    log = AgentLog("container c1: agent probe")
    try:
        os.write(log.writer(os.getuid(), os.getgid()), b"hello\nlast\n")
        await until(lambda: len(records) == 2)
        os.write(log.writer(os.getuid(), os.getgid()), b"x" * 40_000 + b"\nat the end\n")
    finally:
        log.close()
        log.close()
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    lines = ("hello", "last", "x" * LINE_BYTES, "at the end")
    assert records == [f"container c1: agent probe: {line}" for line in lines]
    with pytest.raises(BrokenPipeError):
        log.writer(0, 0)
