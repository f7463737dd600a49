"""The fixture of a node made of files."""

import pytest

from tests.unit.pouchrich.nodes import machine


@pytest.fixture
def node(tmp_path):
    """A machine up for 100 s, whose only cgroup hierarchy is v2."""
    return machine(tmp_path)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    """Lines are as long as they are: how wide the screen is that the tests are watched on is nobody's business."""
    monkeypatch.delenv("COLUMNS", raising=False)
