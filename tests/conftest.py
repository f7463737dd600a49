"""What holds for all tests."""

import pytest
from hypothesis import settings

from shim.task import measures

# How long one example takes is the machine's business: other work on it fails no test.
settings.register_profile("pouchrich", deadline=None)
settings.load_profile("pouchrich")


@pytest.fixture(scope="session", autouse=True)
def _no_metrics_of_the_machines(tmp_path_factory):
    """What tests count is not this machine's."""
    measures.ROOT = str(tmp_path_factory.mktemp("metrics"))
