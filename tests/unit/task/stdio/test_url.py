"""shim.task.stdio.url: as Go's url.URL, whose String() containerd sends."""

import pytest

from shim.task.stdio.url import path_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///var/log/app.log", "/var/log/app.log"),
        ("file:///var/log/my%20app%23%3F%25.log", "/var/log/my app#?%.log"),
        ("file:///var/log/%C3%BC+1.log", "/var/log/\u00fc+1.log"),
        ("file:///var/log/%FF", "/var/log/\udcff"),
        ("binary:///opt/a%20logger?id=1%202", "/opt/a logger"),
    ],
)
def test_a_path_is_what_was_escaped(url, path):
    assert path_of(url) == path
