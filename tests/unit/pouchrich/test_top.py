"""pouchrich top: on a screen, and printed one table after another."""

import argparse
import io
import re

import pytest

from pouchrich.commands import top
from pouchrich.survey import Survey
from tests.unit.pouchrich.nodes import DUMB

CONTAINERS = 40


@pytest.fixture
def shown(node, monkeypatch):
    """A function that runs top for one table, and returns its lines. Container `cN` uses N MiB."""
    for number in range(CONTAINERS):
        node.bundle(f"c{number}", DUMB, init=100 + number)
        node.process(100 + number, 5, "dumb-init", "dumb-init", cgroup=f"/c{number}")
        node.usage(f"/c{number}", cpu_usec=1, memory=number << 20)

    def run(columns, lines, *words, is_terminal=True):
        stream = io.StringIO()
        stream.isatty = lambda: is_terminal
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))
        parser = argparse.ArgumentParser()
        top.add(parser)
        survey = Survey(proc=node.proc, tickets=str(node.top / "tickets"))
        given = parser.parse_args(["--count", "1", "--sort", "memory", *words])
        assert top.run(given, root=node.index, survey=survey, sleep=lambda _: None) == 0
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
        assert text.endswith("\n")
        return text.splitlines()

    return run


def test_a_screen_has_the_largest_and_says_how_many_more_there_are(shown):
    found = shown(100, 24)
    assert len(found) == 23  # below the last newline is a line for the cursor
    assert found[0].startswith("40 rich containers, ")
    assert [line.split()[0] for line in found[1:]] == ["ID", *(f"c{39 - at}" for at in range(20)), "..."]
    assert found[-1] == "... 20 more"


@pytest.mark.parametrize(("columns", "lines"), [(100, 43), (100, 42), (40, 24), (30, 10)])
def test_what_is_shown_fits_and_lines_that_wrap_are_counted(shown, columns, lines):
    found = shown(columns, lines)
    assert lines - 4 <= len(found) <= lines - 1
    assert found[0].startswith("40 rich")
    rows = sum(line.startswith("c") and line[1].isdigit() for line in found)
    assert found[-1] == f"... {CONTAINERS - rows} more" if rows < CONTAINERS else "more" not in found[-1]
    assert (rows == CONTAINERS) == (lines == 43)


@pytest.mark.parametrize(("columns", "lines"), [(100, 24), (30, 40)])
def test_a_table_is_drawn_a_few_times_at_most(shown, monkeypatch, columns, lines):
    drawn, document = [], top.document
    monkeypatch.setattr(top, "document", lambda *given, **more: drawn.append(more["most"]) or document(*given, **more))
    shown(columns, lines)
    assert len(drawn) <= 4


def test_a_screen_of_few_lines_has_one_container(shown):
    found = shown(100, 2)
    assert (found[2].split()[0], found[3:]) == ("c39", ["... 39 more"])


def test_what_is_no_screen_gets_all(shown):
    assert len(shown(100, 24, is_terminal=False)) == CONTAINERS + 2
    assert len(shown(100, 24, "--json")) == 1
