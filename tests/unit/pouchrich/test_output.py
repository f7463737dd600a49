"""pouchrich.output: columns, and nothing of a container's text as a control sequence."""

import io

import pytest

from pouchrich.output import Span, Table, age, clean, coloured, heading, line, plain, show, size

DOCUMENT = [
    heading("Title"),
    line("a = ", Span("b", "good"), indent=2),
    Table(("NAME", "SIZE"), (("short", "1"), (Span("much longer", "bad"), "1234")), frozenset({1}), indent=1),
]


def test_plain_text_has_columns_and_no_trailing_blanks():
    assert plain(DOCUMENT) == "Title\n  a = b\n NAME         SIZE\n short           1\n much longer  1234\n"


def test_what_does_not_print_is_escaped():
    assert clean("a\x1b[31mb\nc\u202ed\x9be é") == "a\\x1b[31mb\\nc\\u202ed\\x9be é"
    assert clean("\udcff") == "\\udcff"


def test_a_terminal_gets_colours_and_the_same_words():
    text = coloured(DOCUMENT, width=80)
    assert "\x1b[32mb\x1b[0m" in text
    assert "much longer" in text


def test_text_is_never_markup_nor_a_control_sequence():
    text = coloured([line("[bold]x[/bold] :smile: \x1b[2J")], width=80)
    assert "[bold]x[/bold] :smile: \\x1b[2J" in text


def test_a_pipe_gets_plain_text():
    stream = io.StringIO()
    show(DOCUMENT, stream)
    assert stream.getvalue() == plain(DOCUMENT)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "-"), (0, "0"), (1023, "1023"), (2048, "2K"), (25270681, "24.1M"), (300 << 20, "300M"), (3 << 40, "3.0T")],
)
def test_sizes_are_in_powers_of_1024(number, shown):
    assert size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, "-"), (0.4, "0s"), (7, "7s"), (310, "5m10s"), (7200, "2h0m"), (273600, "3d4h")]
)
def test_time_spans_have_their_two_largest_units(seconds, shown):
    assert age(seconds) == shown
