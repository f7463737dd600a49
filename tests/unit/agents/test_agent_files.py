"""runtime.agents.files: whether a container still has the node's files where an agent's mounts were made."""

import os
from types import SimpleNamespace

import pytest

from runtime.agents import files
from runtime.errors import FailedPrecondition
from tests.unit.agents.making import agent, bind


@pytest.fixture
def container(tmp_path):
    """A node's directory, and a container's root in which it is bound: here by a link to its parent's other name."""
    (tmp_path / "node").mkdir()
    (tmp_path / "root/opt").mkdir(parents=True)
    os.rename(tmp_path / "node", tmp_path / "root/opt/probe")
    return tmp_path


@pytest.fixture
def root(container):
    fd = os.open(container / "root", os.O_PATH)
    yield fd
    os.close(fd)


def same(container, root, source):
    one = agent(mounts=(bind(source=str(container / source), target="/opt/probe"),))
    files.require_nodes(one, root)


def test_files_that_are_the_nodes_are_taken_and_others_are_told(container, root):
    same(container, root, "root/opt/probe")
    (container / "node").mkdir()
    with pytest.raises(FailedPrecondition, match=r"/node: replaced since .* sees the old one at /opt/probe"):
        same(container, root, "node")
    os.rmdir(container / "root/opt/probe")
    with pytest.raises(FailedPrecondition, match=r"^/opt/probe in the container: no such file or directory$"):
        same(container, root, "node")


def test_no_link_in_the_container_leads_out_of_it(container, root):
    os.rmdir(container / "root/opt/probe")
    (container / "node").mkdir()
    (container / "root/opt/probe").symlink_to("/../../node")
    with pytest.raises(FailedPrecondition, match="in the container"):
        same(container, root, "node")


def test_the_same_number_on_another_file_system_is_another_file(container, root):
    found = os.stat(container / "root/opt/probe")
    other = SimpleNamespace(st_dev=found.st_dev + 1, st_ino=found.st_ino)
    one = agent(mounts=(bind(source="/srv", target="/opt/probe"),))
    with pytest.raises(FailedPrecondition, match="replaced"):
        files.require_nodes(one, root, stat=lambda path: other)


def test_a_mount_that_was_moved_away_is_told_wherever_the_nodes_file_is_by_now(container, root):
    one = agent(mounts=(bind(source="/node", target="/opt/probe"),))
    known = files.look(one, root)
    files.require_unchanged(one, root, known)
    os.rename(container / "root/opt", container / "root/elsewhere")
    with pytest.raises(FailedPrecondition, match=r"^/opt/probe in the container: no such file or directory$"):
        files.require_unchanged(one, root, known)
    os.makedirs(container / "root/opt/probe")
    with pytest.raises(FailedPrecondition, match=r"^/opt/probe in the container: found another file than the node's"):
        files.require_unchanged(one, root, known)
