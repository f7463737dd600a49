"""runtime.cgroup.delegation: limits kept where the container cannot write."""

import pytest

from runtime.cgroup import delegation
from runtime.errors import RuntimeFailed
from runtime.init.cgroup import Delegation


@pytest.fixture
def node(tmp_path):
    """A v2 tree with a container at /pod/c/pouchrich, and the /proc that shows it."""
    own = tmp_path / "cgroup/pod/c/pouchrich"
    own.mkdir(parents=True)
    for directory in (own, own.parent):
        for name in ("memory.max", "pids.max", "io.max", "cgroup.max.descendants", "cgroup.max.depth", "cgroup.freeze"):
            (directory / name).write_text("max\n")
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/7/cgroup").write_text("0::/pod/c/pouchrich\n")
    (tmp_path / "proc/self/mountinfo").write_text(f"1 2 0:3 / {tmp_path}/cgroup rw - cgroup2 x rw\n")
    return tmp_path


def applied(plan, node):
    delegation.apply(plan, delegation.find(plan, 7, proc=str(node / "proc")))


def test_the_limits_go_to_the_cgroup_above(node):
    own = node / "cgroup/pod/c/pouchrich"
    (own / "memory.max").write_text("4096\n")
    applied(Delegation(9, 3, parent="/pod/c"), node)
    assert (own.parent / "memory.max").read_text().startswith("4096")
    assert (own.parent / "cgroup.max.descendants").read_text().startswith("9")
    assert (own / "cgroup.max.descendants").read_text() == "max\n"


@pytest.mark.parametrize("name", ["hugetlb.x.max", "cpu.max"])
def test_a_cgroup_with_the_name_of_a_limit_is_none(node, name):
    """The container may make cgroups of any name below its own."""
    own = node / "cgroup/pod/c/pouchrich"
    (own / name).mkdir()
    (own / "memory.max").write_text("4096\n")
    applied(Delegation(9, 3, parent="/pod/c"), node)
    assert (own.parent / "memory.max").read_text().startswith("4096")
    (own.parent / name).write_text("max\n")
    delegation.restore(str(own))
    assert delegation.freeze(Delegation(9, 3, parent="/pod/c"), str(own)) is True


def test_where_the_kernel_keeps_the_limits_only_the_number_of_cgroups_is_set(node):
    own = node / "cgroup/pod/c/pouchrich"
    applied(Delegation(9, 3), node)
    assert (own / "cgroup.max.depth").read_text().startswith("3")
    assert (own.parent / "cgroup.max.depth").read_text() == "max\n"


def test_a_container_in_the_root_of_the_tree_is_refused(node):
    (node / "proc/7/cgroup").write_text("0::/\n")
    with pytest.raises(RuntimeFailed, match="root cgroup of the v2 tree"):
        applied(Delegation(9, 3), node)


def test_on_a_v1_host_there_is_nothing_to_do(node):
    (node / "proc/7/cgroup").write_text("3:memory:/pod/c\n")
    applied(Delegation(9, 3, directory="/somewhere"), node)
    assert (node / "cgroup/pod/c/pouchrich/cgroup.max.depth").read_text() == "max\n"


def test_the_directory_of_a_container_that_was_never_made_goes_and_one_in_use_stays(tmp_path):
    made = Delegation(9, 3, directory=str(tmp_path / "pod" / "c"))
    (tmp_path / "pod").mkdir()
    delegation.prepare(made)
    (tmp_path / "pod/c/init.scope").mkdir()
    delegation.remove(made)
    assert (tmp_path / "pod/c/init.scope").exists()
    (tmp_path / "pod/c/init.scope").rmdir()
    delegation.remove(made)
    assert list((tmp_path / "pod").iterdir()) == []
    delegation.remove(made)


def test_a_tree_that_takes_too_long_to_remove_is_put_where_the_runtime_does_not_find_it(tmp_path, monkeypatch):
    directory = tmp_path / "c"
    (directory / "deep").mkdir(parents=True)
    plan = Delegation(9, 3, directory=str(directory))
    monkeypatch.setattr(delegation.tree, "remove", lambda path, *, until: False)
    delegation.clear(plan, patience_s=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["c.pouchrich-left"]
    monkeypatch.undo()
    assert delegation.remove(plan, patience_s=5.0)
    assert list(tmp_path.iterdir()) == []
