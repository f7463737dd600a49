"""runtime.cgroup.limit_mirror: the container's limits in the cgroup where its application looks for them."""

import pytest

from runtime.cgroup import limit_mirror
from runtime.cgroup.limit_mirror import LimitMirror
from runtime.cgroup.model import Cgroup
from runtime.errors import NotFound

UNSET = {"memory.max": "max\n", "cpu.max": "max 100000\n"}
LIMITS = {"memory.max": "536870912\n", "cpu.max": "150000 100000\n"}


class Tree:
    """The container's cgroup `top`, and processes in cgroups below it."""

    def __init__(self, path):
        self.top = path / "pod/c"
        self.top.mkdir(parents=True)
        self.places = {}
        self.set(LIMITS)

    def set(self, limits):
        for name, text in limits.items():
            (self.top / name).write_text(text)

    def place(self, pid, where, files=UNSET):
        at = (self.top / where).resolve()
        at.mkdir(parents=True, exist_ok=True)
        if at != self.top:
            for name, text in files.items():
                (at / name).write_text(text)
        self.places[pid] = at
        return at

    def locate(self, pid):
        if pid not in self.places:
            raise NotFound("gone")
        return Cgroup(unified=str(self.places[pid]))


@pytest.fixture
def tree(tmp_path, monkeypatch):
    one = Tree(tmp_path)
    monkeypatch.setattr(limit_mirror, "locate", one.locate)
    return one


def said(at):
    return {path.name: path.read_text() for path in at.iterdir() if path.is_file()}


def test_the_applications_cgroup_says_what_the_containers_does_and_goes_on_to(tree):
    at = tree.place(7, "system.slice/pouchrich-app.service")
    one = LimitMirror(Cgroup(unified=str(tree.top)))
    one.add(7)
    assert said(at) == LIMITS
    more = {**LIMITS, "memory.max": "1073741824\n"}
    tree.set(more)
    one.refresh()
    assert said(at) == more


def test_who_moves_itself_further_down_keeps_no_old_limit_above(tree):
    at = tree.place(7, "app.service")
    one = LimitMirror(Cgroup(unified=str(tree.top)))
    one.add(7)
    below = tree.place(7, "app.service/leaf")
    tree.set({**LIMITS, "memory.max": "999999999\n"})
    one.refresh()
    assert (at / "memory.max").read_text() == "999999999\n"
    assert said(below) == UNSET


def test_a_burst_of_the_containers_is_not_taken_away(tree):
    at = tree.place(7, "app.service")
    tree.set({"cpu.max.burst": "5000\n"})
    LimitMirror(Cgroup(unified=str(tree.top))).add(7)
    assert said(at) == {**LIMITS, **{"cpu.max": "max 100000\n"}}


def test_a_limit_of_somebody_elses_is_left_and_no_file_is_made(tree):
    at = tree.place(7, "app.service", {"memory.max": "1000\n"})
    one = LimitMirror(Cgroup(unified=str(tree.top)))
    one.add(7)
    one.refresh()
    assert said(at) == {"memory.max": "1000\n"}
    later = tree.place(8, "other.service")
    one.add(8)
    (later / "memory.max").write_text("200000000\n")
    tree.set({"memory.max": "999999999\n"})
    one.refresh()
    assert said(later) == {"memory.max": "200000000\n", "cpu.max": LIMITS["cpu.max"]}


def test_another_cgroup_than_one_below_is_left(tree, tmp_path):
    beside = tree.place(7, "../c-2/app")
    one = LimitMirror(Cgroup(unified=str(tree.top)))
    one.add(7)
    assert said(beside) == UNSET
    tree.place(7, "")
    one.add(7)
    assert said(tree.top) == LIMITS


def test_what_has_ended_and_a_v1_cgroup_are_no_error(tree):
    at = tree.place(7, "app.service")
    one = LimitMirror(Cgroup(unified=str(tree.top)))
    one.add(7)
    one.add(8)
    for path in at.iterdir():
        path.unlink()
    at.rmdir()
    one.refresh()
    assert not at.exists()
    LimitMirror(Cgroup(controllers=(("memory", str(tree.top)),))).add(7)
