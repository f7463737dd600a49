import os

import pytest

from runtime import cgroup
from runtime.cgroup import Cgroup
from runtime.cgroup.locate import memberships_of
from runtime.errors import NotFound

RUNNING = "42 (a) b) c) S 1 42 42 0 -1 4194560 100 0"
EXITING = "42 (a) b) c) R 1 42 42 0 -1 4194564 100 0"
ZOMBIE = "42 (a) Z 1 42 42 0 -1 4194304 100 0"

V1_MOUNTS = """\
30 23 0:25 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:8 - tmpfs tmpfs ro,mode=755
31 30 0:26 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd
35 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:16 - cgroup cgroup rw,cpu,cpuacct
36 30 0:31 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory
"""
V1_PATHS = "9:memory:/kubepods/pod1/c\n5:cpu,cpuacct:/kubepods/pod1/c\n1:name=systemd:/kubepods/pod1/c\n"
V1_FOUND = (
    ("name=systemd", "/sys/fs/cgroup/systemd/kubepods/pod1/c"),
    ("cpu", "/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/c"),
    ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/c"),
    ("memory", "/sys/fs/cgroup/memory/kubepods/pod1/c"),
)
V2_MOUNT = "30 23 0:25 / /sys/fs/cgroup rw,nosuid shared:8 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


@pytest.fixture
def locate(tree):
    def at(memberships, mounts, stat=RUNNING):
        proc = tree({"42/cgroup": memberships, "42/stat": stat, "self/mountinfo": mounts})
        return cgroup.locate(42, proc)

    return at


def test_each_v1_controller_has_its_directory(locate):
    found = locate(V1_PATHS, V1_MOUNTS)
    assert found == Cgroup(controllers=V1_FOUND)
    assert found.main == "/sys/fs/cgroup/memory/kubepods/pod1/c"
    assert found.directory("cpuacct") == "/sys/fs/cgroup/cpu,cpuacct/kubepods/pod1/c"
    assert found.directory("pids") == ""


def test_a_unified_host_has_one_directory_for_all_controllers(locate):
    path = "/kubepods.slice/kubepods-pod1.slice/cri-containerd-c.scope"
    found = locate(f"0::{path}\n", V2_MOUNT)
    assert found == Cgroup(unified="/sys/fs/cgroup" + path)
    assert found.directory("memory") == found.main == found.unified


def test_a_hybrid_host_is_taken_by_its_v1_side(locate):
    mounts = V1_MOUNTS + V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    assert locate(V1_PATHS + "0::/kubepods/pod1/c\n", mounts) == Cgroup(controllers=V1_FOUND)


def test_v1_hierarchies_without_accounting_do_not_make_a_v1_host(locate):
    mounts = (
        V2_MOUNT
        + "40 30 0:50 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n"
        + "41 30 0:51 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
    )
    assert locate("3:net_cls:/\n2:name=systemd:/x\n0::/c\n", mounts) == Cgroup(unified="/sys/fs/cgroup/c")


def test_a_mount_that_shows_a_part_of_the_hierarchy_shortens_the_path(locate):
    mounts = V2_MOUNT.replace(" / /sys", " /docker/h /sys")
    assert locate("0::/docker/h/c\n", mounts) == Cgroup(unified="/sys/fs/cgroup/c")
    with pytest.raises(NotFound):
        locate("0::/docker/hh/c\n", mounts)


def test_the_root_cgroup_is_the_mount_point_itself(locate):
    assert locate("0::/\n", V2_MOUNT) == Cgroup(unified="/sys/fs/cgroup")


@pytest.mark.parametrize("stat", [EXITING, ZOMBIE, ""])
def test_a_process_on_its_way_out_has_no_cgroup_because_v1_would_name_the_root(locate, stat):
    with pytest.raises(NotFound, match=r"^cgroup does not exist$"):
        locate("9:memory:/\n", V1_MOUNTS, stat)


def test_no_process_and_no_mount_are_not_found(locate, tree):
    with pytest.raises(NotFound):
        cgroup.locate(43, tree({}))
    with pytest.raises(NotFound):
        locate(V1_PATHS, "")


def test_the_value_is_written_down_with_a_directory_for_each_controller():
    assert Cgroup(unified="/a").to_dict() == {"unified": "/a", "controllers": {}}
    assert Cgroup(controllers=V1_FOUND).to_dict() == {"unified": "", "controllers": dict(V1_FOUND)}


def test_this_process_is_found_where_a_cgroup_file_system_is_mounted():
    try:
        found = cgroup.locate(os.getpid())
    except NotFound:
        pytest.skip("no cgroup file system is mounted here")
    assert found.exists()
    assert os.getpid() in cgroup.procs(found)


def test_a_cgroups_name_forges_no_line():
    """cgroup v2 refuses a newline in a name and nothing else, and str.splitlines() splits at ten characters more."""
    name = "a\v0::/system.slice/containerd.service\x85\u2028b\x1c\r"
    found = memberships_of(f"0::/{name}\n1:memory,cpu:/x\n".encode())
    assert found == {"": f"/{name}", "memory": "/x", "cpu": "/x"}
