"""runtime.cgroup.shown: the container's limits in the cgroup where its application looks for them."""

import os

from runtime.cgroup import shown
from runtime.cgroup.model import Cgroup
from runtime.errors import NotFound

ROOT = "sys/fs/cgroup/pod/c"


def tree(tmp_path, monkeypatch, at, files=("memory.max", "cpu.max")):
    """The container's cgroup, and a process's below it."""
    root, own = tmp_path / ROOT, tmp_path / at
    own.mkdir(parents=True)
    root.mkdir(parents=True, exist_ok=True)
    (root / "memory.max").write_text("536870912\n")
    (root / "cpu.max").write_text("150000 100000\n")
    for name in files:
        if own != root:
            (own / name).write_text("max\n")
    monkeypatch.setattr(shown, "locate", lambda pid: Cgroup(unified=str(own)))
    return Cgroup(unified=str(root)), own


def test_the_applications_cgroup_says_what_the_containers_does(tmp_path, monkeypatch):
    cgroup, own = tree(tmp_path, monkeypatch, f"{ROOT}/system.slice/pouchrich-app.service")
    shown.limits(7, cgroup)
    assert ((own / "memory.max").read_text(), (own / "cpu.max").read_text()) == ("536870912\n", "150000 100000\n")


def test_where_there_is_no_controller_nothing_is_made(tmp_path, monkeypatch):
    cgroup, own = tree(tmp_path, monkeypatch, f"{ROOT}/app", files=("memory.max",))
    shown.limits(7, cgroup)
    assert (own / "memory.max").read_text() == "536870912\n"


def test_another_cgroup_than_one_below_is_left(tmp_path, monkeypatch):
    cgroup, own = tree(tmp_path, monkeypatch, f"{ROOT}-2/app")
    shown.limits(7, cgroup)
    assert (own / "memory.max").read_text() == "max\n"
    cgroup, own = tree(tmp_path / "x", monkeypatch, ROOT)
    before = os.stat(own / "memory.max").st_mtime_ns
    shown.limits(7, cgroup)
    assert os.stat(own / "memory.max").st_mtime_ns == before


def test_a_process_that_has_ended_and_a_v1_cgroup_are_no_error(monkeypatch):
    def gone(pid):
        raise NotFound("gone")

    monkeypatch.setattr(shown, "locate", gone)
    shown.limits(7, Cgroup(unified="/x"))
    shown.limits(7, Cgroup(controllers=(("memory", "/x"),)))
    shown.limits(7, None)
