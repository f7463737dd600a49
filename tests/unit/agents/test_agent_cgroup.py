import re
from dataclasses import asdict

import pytest

from runtime.agents import cgroup
from runtime.bundle import Bundle
from runtime.errors import FailedPrecondition
from runtime.oci.argv import OCIBinary
from shim.pod import cleanup


@pytest.mark.parametrize(("controllers", "has"), [("cpu memory pids", True), ("cpu hugetlb", False), (None, False)])
def test_memory_is_on_v2_where_the_root_of_the_hierarchy_lists_it(tmp_path, controllers, has):
    if controllers is not None:
        (tmp_path / "cgroup.controllers").write_text(f"{controllers}\n")
    assert cgroup.has_v2_memory(str(tmp_path)) is has


def test_an_agents_cgroup_is_beside_the_containers():
    assert cgroup.path_of("/sys/fs/cgroup/kubepods/pod1/c1", "probe") == "/sys/fs/cgroup/kubepods/pod1/c1-agent-probe"


@pytest.mark.parametrize("name", ["{}", "cri-containerd-{}.scope"])
def test_its_name_has_no_whole_container_id_by_which_cadvisor_would_take_it_for_the_container(name: str):
    found = cgroup.path_of(f"/sys/fs/cgroup/pod.slice/{name.format('0123456789abcdef' * 4)}", "probe")
    assert found == f"/sys/fs/cgroup/pod.slice/{name.format('0123456789ab')}-agent-probe"
    assert not re.search("[a-z0-9]{64}", found)


def test_the_limit_is_set_before_anything_enters(tmp_path):
    for name in ("memory.max", "memory.oom.group", "cgroup.procs"):
        (tmp_path / name).write_text("")
    cgroup.make(str(tmp_path), 1 << 20)
    cgroup.enter(str(tmp_path), 42)
    assert (tmp_path / "memory.max").read_text() == "1048576"
    assert (tmp_path / "cgroup.procs").read_text() == "42"


def test_a_parent_without_the_controller_is_a_refusal_and_leaves_nothing(tmp_path):
    with pytest.raises(FailedPrecondition, match="no memory limit can be set: no such file"):
        cgroup.make(str(tmp_path / "agent"), 1 << 20)
    assert not (tmp_path / "agent").exists()


def test_removing_what_is_not_there_is_no_error(tmp_path):
    cgroup.remove(str(tmp_path / "gone"))
    assert list(tmp_path.iterdir()) == []


def test_what_was_noted_is_removed_by_delete_and_nothing_else(tmp_path):
    bundle, made, other = tmp_path / "bundle", tmp_path / "c-agent-a", tmp_path / "c"
    for directory in (bundle, made, other):
        directory.mkdir()
    cgroup.note(str(bundle), [str(made), str(tmp_path / "c-agent-never-made")])
    assert (bundle / cgroup.NOTE).stat().st_mode & 0o777 == 0o600
    Bundle(str(bundle)).write_record({"oci": asdict(OCIBinary("/bin/true", str(tmp_path))), "plan": {}})
    cleanup._delete_container(cleanup.BundleState(cleanup.BundleDirectory(str(bundle))), "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "c"]
    assert list(bundle.iterdir()) == []
    cgroup.remove_noted(str(bundle))
