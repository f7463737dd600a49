import os
from types import SimpleNamespace

import pytest

from runtime.agents import change
from runtime.errors import FailedPrecondition
from tests.unit.agents.making import agent, bind, selected


def test_differences_are_named_as_the_configuration_names_them_and_not_whose_it_is():
    other = agent(command=("/other",), restart="no", memory_bytes=1, user="app", env=(("A", "b"),))
    assert change.differences(agent(), other) == ("command", "restart", "memory", "user", "env")
    assert change.differences(agent(), agent()) == ()


@pytest.mark.parametrize(("key", "more"), [("mounts", {"mounts": (bind(),)}), ("mandatory", {"mandatory": True})])
def test_what_belongs_to_the_container_needs_a_new_one(key, more):
    with pytest.raises(FailedPrecondition, match=rf"^/c\.toml: agents\[0\]\.{key}: changed since .* a new pod"):
        change.require_possible(selected(), selected(**more), source="/c.toml")
    change.require_possible(selected(), selected(command=("/other",)), source="/c.toml")


@pytest.fixture
def container(tmp_path):
    """A node's directory, and a container's root in which it is bound: here by a link to its parent's other name."""
    (tmp_path / "node").mkdir()
    (tmp_path / "root/opt").mkdir(parents=True)
    os.rename(tmp_path / "node", tmp_path / "root/opt/probe")
    return tmp_path


def same(container, source):
    one = agent(mounts=(bind(source=str(container / source), target="/opt/probe"),))
    change.require_same_files(one, str(container / "root"))


def test_files_that_are_the_nodes_are_taken_and_others_are_told(container):
    same(container, "root/opt/probe")
    (container / "node").mkdir()
    with pytest.raises(FailedPrecondition, match=r"/node: replaced since .* sees the old one at /opt/probe"):
        same(container, "node")
    os.rmdir(container / "root/opt/probe")
    with pytest.raises(FailedPrecondition, match=r"^/opt/probe in the container: no such file or directory$"):
        same(container, "node")


def test_no_link_in_the_container_leads_out_of_it(container):
    os.rmdir(container / "root/opt/probe")
    (container / "node").mkdir()
    (container / "root/opt/probe").symlink_to("/../../node")
    with pytest.raises(FailedPrecondition, match="in the container"):
        same(container, "node")


def test_the_same_number_on_another_file_system_is_another_file(container):
    found = os.stat(container / "root/opt/probe")
    other = SimpleNamespace(st_dev=found.st_dev + 1, st_ino=found.st_ino)
    one = agent(mounts=(bind(source="/srv", target="/opt/probe"),))
    with pytest.raises(FailedPrecondition, match="replaced"):
        change.require_same_files(one, str(container / "root"), stat=lambda path: other)
