"""pouchrich.handler: what is said to who writes a handler into containerd's configuration."""

import pytest

from pouchrich import handler


@pytest.mark.parametrize(("major", "version", "said"), [(1, 2, True), (2, 2, False), (2, 3, False), (2, 4, False)])
def test_of_containerd_1_it_says_that_its_default_handler_goes_where_another_is_the_first(major, version, said):
    """`containerd config dump` of 1.6 and 1.7 has no runtimes.runc then, that of 2.1 has."""
    text = handler.containerd(major, handler="h", runtime_path="", config_path="", version=version, file="/etc/c.toml")
    assert ("name runtimes.runc too" in text) == said
    lines = [line for line in text.splitlines() if not line.startswith(("#", "version", " ")) and line]
    assert lines == [f'[plugins."{handler.PLUGINS[min(version, 3)]}".containerd.runtimes.h]']
