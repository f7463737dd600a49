"""The fixture of a node made of files."""

import pytest

from tests.unit.pouchrich.nodes import Node


@pytest.fixture
def node(tmp_path):
    """A machine up for 100 s, whose only cgroup hierarchy is v2."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/uptime").write_text("100.00 300.00\n")
    mount = f"30 20 0:26 / {tmp_path}/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    (tmp_path / "proc/self/mountinfo").write_text(mount)
    return Node(tmp_path)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch):
    """Lines are as long as they are: how wide the screen is that the tests are watched on is nobody's business."""
    monkeypatch.delenv("COLUMNS", raising=False)
