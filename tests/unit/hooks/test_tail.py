"""runtime.hooks.tail: bounded, and fit to be shown."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.hooks.tail import Tail


def tail_of(*parts, limit=64 * 1024):
    tail = Tail(limit)
    for part in parts:
        tail.feed(part)
    return tail


def test_only_the_end_is_kept():
    tail = tail_of(b"a" * 70_000, b"b" * 10, limit=100)
    assert tail.text(100) == "a" * 90 + "b" * 10


def test_a_character_cut_at_the_front_is_left_out():
    assert tail_of("ä".encode() * 10).text(5) == "ää"


def test_what_is_no_text_is_replaced_and_lines_are_joined():
    assert tail_of(b"one\r\n\x1b[31mtwo\x00\xff\n\n").text() == "one; ?[31mtwo?\ufffd"


def test_the_replacements_count_too():
    assert len(tail_of(b"\xff" * 1000).text(512).encode()) <= 512


@given(st.lists(st.binary(max_size=600)), st.integers(1, 600))
def test_any_bytes_become_one_printable_line_of_bounded_size(parts, at_most):
    text = tail_of(*parts).text(at_most)
    assert len(text.encode()) <= at_most
    assert all(c.isprintable() for c in text)
