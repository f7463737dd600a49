"""runtime.host: hosts told apart by their mounts."""

import resource

import pytest

from runtime import host
from runtime.linux import mountinfo


def entries(*mounts):
    return tuple(mountinfo.parse(f"1 2 0:3 / {at} rw - {kind} x {options}\n".encode() for at, kind, options in mounts))


V2 = ("/sys/fs/cgroup", "cgroup2", "rw,nsdelegate")
MEMORY = ("/sys/fs/cgroup/memory", "cgroup", "rw,memory")
NAMED = ("/sys/fs/cgroup/systemd", "cgroup", "rw,xattr,name=systemd")
BESIDE = ("/sys/fs/cgroup/unified", "cgroup2", "rw")


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ([V2], ("unified", True, "")),
        ([(*V2[:2], "rw")], ("unified", False, "")),
        ([MEMORY, NAMED, BESIDE], ("hybrid", False, "/sys/fs/cgroup/systemd")),
        ([MEMORY, NAMED], ("v1", False, "/sys/fs/cgroup/systemd")),
        ([MEMORY], ("v1", False, "")),
        ([MEMORY, BESIDE, ("/sys/fs/cgroup/unified", "tmpfs", "rw")], ("v1", False, "")),
        ([V2, ("/sys/fs/cgroup", "tmpfs", "rw"), MEMORY], ("v1", False, "")),
        ([MEMORY, ("/elsewhere/unified", "cgroup2", "rw,nsdelegate")], ("v1", False, "")),
        ([], ("v1", False, "")),
    ],
)
def test_the_form_of_the_cgroups(mounts, found):
    assert host.layout_from_mounts(entries(*mounts)) == found


def test_the_mounts_of_all_the_nodes_pods_cost_nothing(tmp_path):
    """50,000 of them: to look at each beside each other one would take minutes."""
    pods = "".join(f"{n} 2 0:3 / /run/containerd/{n}/rootfs rw shared:{n} - overlay x rw\n" for n in range(50_000))
    (tmp_path / "mountinfo").write_text(f"{pods}1 2 0:3 / /sys/fs/cgroup rw - cgroup2 x rw,nsdelegate\n{pods}")
    assert host.read(str(tmp_path / "mountinfo")).cgroups == "unified"


def test_this_host_is_read_with_our_own_limits():
    found = host.read()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (resource.RLIMIT_NOFILE, soft, hard) in found.rlimits
    assert len(found.rlimits) == 16
    assert all(0 <= soft <= hard <= host.RLIM_INFINITY for _, soft, hard in found.rlimits)
    assert found.cgroups in ("unified", "hybrid", "v1")


def test_systemd_runs_where_it_has_made_its_directory(tmp_path):
    assert not host.has_systemd(str(tmp_path / "system"))
    (tmp_path / "link").symlink_to(tmp_path)
    assert not host.has_systemd(str(tmp_path / "link"))
    assert host.has_systemd(str(tmp_path))
