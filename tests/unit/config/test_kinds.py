"""runtime.config.kinds: single values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.config import kinds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("10m", 600), ("1m30s", 90), ("1h", 3600), ("1h1m1s1ms", 3661.001), ("10ms", 0.01), ("0s", 0)],
)
def test_a_duration_is_its_seconds(text, seconds):
    assert kinds.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1", "1 s", "1d", "-1s", "1.5s", "1s1m", "1m1m", "\u0661s", "1ms1s", "1S"])
def test_anything_else_is_no_duration(text):
    assert kinds.parse_duration(text) is None


@given(st.integers(min_value=0, max_value=10**10))
def test_a_duration_written_and_read_is_the_same(millis):
    assert kinds.parse_duration(kinds.format_duration(millis / 1000)) == pytest.approx(millis / 1000)


@pytest.mark.parametrize(("value", "count"), [(1024, 1024), ("1Ki", 1024), ("2Mi", 2 << 20), ("7", 7)])
def test_a_size_is_its_bytes(value, count):
    assert kinds.size(1).read(value, "k") == count


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1K", "1 Ki", "-1", "", "9" * 18 + "Gi", 2**63])
def test_anything_else_is_no_size(value):
    with pytest.raises(kinds.Refused, match=r"allowed at least \d+ bytes"):
        kinds.size(1).read(value, "k")


@pytest.mark.parametrize("value", ["a\0", "\ud800", 1, None, "x" * 4097])
def test_text_is_what_the_kernel_can_take(value):
    with pytest.raises(kinds.Refused):
        kinds.text("(?s).*", "text").read(value, "k")


@pytest.mark.parametrize("value", ["", "/", "a", "/a/", "//a", "/a/./b", "/a/../b"])
def test_a_path_is_absolute_and_normal(value):
    with pytest.raises(kinds.Refused, match="allowed an absolute path"):
        kinds.PATH.read(value, "k")
    assert kinds.PATH.read("/a/b c", "k") == "/a/b c"


@given(st.text())
def test_a_value_is_shown_in_one_short_ascii_line(value):
    text = kinds.short_json(value)
    assert text.isascii()
    assert "\n" not in text
    assert len(text) <= 80
