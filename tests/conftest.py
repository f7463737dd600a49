"""What holds for all tests."""

import gc
import sys
from collections.abc import Generator

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Keep what is compiled from run to run, and for both workers, whatever the environment says of __pycache__.

    And only then import hypothesis: pytest rewrites its 84 modules as it does tests. --hypothesis-profile=quick, which
    the unit tier is run with, draws a quarter of the examples that all other runs draw.
    """
    if (cache := getattr(config, "cache", None)) is not None:  # -p no:cacheprovider: of this run nothing is kept
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(cache.mkdir("compiled"))
    from hypothesis import settings

    # How long one example takes is the machine's business: other work on it fails no test.
    settings.register_profile("pouchrich", deadline=None)
    settings.register_profile("quick", deadline=None, max_examples=25)
    settings.load_profile("pouchrich")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays to the end: no collection of garbage goes through it, now or between tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Draw a text before the first test does, within its time: in a new checkout, the table of all characters is made.

    And so is a list of what the modules under test have for constants; both are kept in .hypothesis.
    """
    if session.items and not session.config.option.collectonly:
        from hypothesis import given, settings
        from hypothesis import strategies as st

        @settings(max_examples=1, database=None)
        @given(st.text())
        def draw(_text: str) -> None:
            pass

        draw()


@pytest.fixture(scope="session", autouse=True)
def _no_metrics_of_the_machines(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests count is not this machine's."""
    from shim.task.report import measures

    measures.ROOT = str(tmp_path_factory.mktemp("metrics"))
