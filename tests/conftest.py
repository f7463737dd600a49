"""What holds for all tests."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shim.task import measures

# How long one example takes is the machine's business: other work on it fails no test.
settings.register_profile("pouchrich", deadline=None)
settings.load_profile("pouchrich")


def pytest_configure(config):
    """Keep what is compiled from run to run, and for both workers, whatever the environment says of __pycache__."""
    if (cache := getattr(config, "cache", None)) is not None:  # -p no:cacheprovider: of this run nothing is kept
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(cache.mkdir("compiled"))


def pytest_collection_finish(session):
    """Draw a text before the first test does, within its time: in a new checkout, the table of all characters is made.

    And so is a list of what the modules under test have for constants; both are kept in .hypothesis.
    """
    if session.items and not session.config.option.collectonly:

        @settings(max_examples=1, database=None)
        @given(st.text())
        def draw(_text):
            pass

        draw()


@pytest.fixture(scope="session", autouse=True)
def _no_metrics_of_the_machines(tmp_path_factory):
    """What tests count is not this machine's."""
    measures.ROOT = str(tmp_path_factory.mktemp("metrics"))
