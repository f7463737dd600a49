"""What holds for unit tests: none takes long, so one that hangs is known for it soon."""

from pathlib import Path

import pytest

LIMIT_S = 10
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each of them its limit, but for those that say one themselves."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))
