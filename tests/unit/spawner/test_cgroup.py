"""What becomes of a pod server before it serves: the cgroup that containerd names for it."""

import os
from pathlib import Path

import pytest

from shim.spawner import cgroup


def cgroups(root: Path, *hierarchies: str) -> None:
    for hierarchy in hierarchies:
        (root / hierarchy / "pods").mkdir(parents=True)
        (root / hierarchy / "pods" / "cgroup.procs").touch()


def test_on_v1_each_hierarchy_is_joined_once(tmp_path: Path):
    cgroups(tmp_path, "memory", "cpu,cpuacct", "unified")
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "hugetlb").mkdir()
    cgroup.join("/pods", root=str(tmp_path))
    for hierarchy in ("memory", "cpu,cpuacct", "unified"):
        assert (tmp_path / hierarchy / "pods" / "cgroup.procs").read_text() in (str(os.getpid()), "0")


def test_on_v2_the_one_tree_is_joined(tmp_path: Path):
    cgroups(tmp_path, ".")
    (tmp_path / "cgroup.controllers").touch()
    cgroup.join("pods", root=str(tmp_path))
    assert (tmp_path / "pods" / "cgroup.procs").read_text() in (str(os.getpid()), "0")


@pytest.mark.parametrize("path", ["/nowhere", "../../etc"])
def test_a_cgroup_that_is_not_there_is_an_error_that_names_it(tmp_path: Path, path: str):
    cgroups(tmp_path, "memory")
    with pytest.raises(FileNotFoundError, match="shim_cgroup: found"):
        cgroup.join(path, root=str(tmp_path))
