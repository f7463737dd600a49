"""runtime.cgroup.tree on plain directories, which like cgroups go only when they are empty."""

import os
import time
from types import SimpleNamespace

import pytest

from runtime.cgroup import tree as tree_module
from runtime.cgroup.tree import remove


@pytest.fixture
def clock(monkeypatch):
    """Time passes by waits alone; what is in `then` is called after the first."""
    one = SimpleNamespace(now=0.0, waits=0, then=lambda: None)

    def wait(seconds):
        one.now += seconds
        one.waits += seconds > 0
        one.then()

    monkeypatch.setattr(tree_module, "time", SimpleNamespace(monotonic=lambda: one.now, sleep=wait))
    return one


def test_a_tree_of_any_depth_and_width_goes(tmp_path):
    top = tmp_path / "top"
    for number in range(50):
        (top / f"wide{number}" / "below").mkdir(parents=True)
    at = os.open(top, os.O_RDONLY)
    for _ in range(600):  # longer than a path may be
        os.mkdir("a" * 20, dir_fd=at)
        below = os.open("a" * 20, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    assert remove(str(top), until=time.monotonic() + 20)
    assert not top.exists()


def test_what_is_not_there_is_gone(tmp_path, clock):
    assert remove(str(tmp_path / "none"), until=0)


def test_no_link_leads_out_of_the_tree(tmp_path, clock):
    outside = tmp_path / "outside" / "kept"
    outside.mkdir(parents=True)
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(outside.parent)
    (tmp_path / "link").symlink_to(outside.parent)
    assert not remove(str(tmp_path / "top"), until=0.1)
    assert not remove(str(tmp_path / "link"), until=0.1)
    assert outside.exists()


def test_what_is_busy_is_tried_again_until_its_time_is_over(tmp_path, clock):
    top = tmp_path / "top"
    (top / "busy").mkdir(parents=True)
    process = top / "busy" / "process"
    process.touch()
    assert not remove(str(top), until=0.1)
    assert clock.now == pytest.approx(0.1, abs=0.02)
    clock.then = lambda: process.unlink(missing_ok=True)
    assert remove(str(top), until=1)


def test_a_tree_that_is_too_large_for_the_time_is_left(tmp_path, clock, monkeypatch):
    top = tmp_path / "top"
    for number in range(20):
        (top / f"{number}" / "below").mkdir(parents=True)
    monkeypatch.setattr(tree_module, "_rmdir", lambda name, fd, real=tree_module._rmdir: _costs(clock, real, name, fd))
    assert not remove(str(top), until=5)
    assert clock.now <= 6
    assert top.exists()


def _costs(clock, real, name, fd):
    clock.now += 1
    return real(name, fd)
