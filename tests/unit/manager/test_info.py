"""shim.manager.start: what `-info` does about a spawner, on which its answer does not depend."""

import os

import pytest

from shim.manager import start
from shim.spawner import launch


@pytest.fixture
def begun(monkeypatch):
    """The keys of the spawners that were begun."""
    keys = []
    monkeypatch.setattr(start, "key", lambda: "key")
    monkeypatch.setattr(start, "_release_native_lock", lambda: None)
    monkeypatch.setattr(launch, "ensure_spawner", lambda key, *, hung: keys.append(key) or True)
    return keys


@pytest.mark.parametrize(("asks", "switch", "keys"), [(True, b"", ["key"]), (False, b"", []), (True, b"off", [])])
def test_a_spawner_is_begun_where_containerd_asks_and_may_have_one(monkeypatch, begun, asks, switch, keys):
    monkeypatch.setattr(start, "is_containerd", lambda pid: asks)
    monkeypatch.setattr(start.posix, "environ", {start.SWITCH: switch})
    start.begin_spawner_for_containerd()
    assert begun == keys


def test_where_none_can_be_begun_the_answer_is_given_all_the_same(monkeypatch, begun):
    def gone():
        raise FileNotFoundError("shim")

    monkeypatch.setattr(start, "is_containerd", lambda pid: True)
    monkeypatch.setattr(start, "key", gone)
    start.begin_spawner_for_containerd()
    assert begun == []


def test_a_parent_that_ends_meanwhile_is_not_containerd(monkeypatch):
    def ended(fd, size):
        raise ProcessLookupError

    assert not start.is_containerd(0)
    monkeypatch.setattr(start.posix, "read", ended)
    assert not start.is_containerd(os.getpid())
