import os

from runtime.linux import mountinfo
from runtime.linux.mountinfo import MountEntry

# From a 6.1 host: optional fields absent, present and several; an escaped space; a file as mount point.
TEXT = rb"""23 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
24 23 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw
31 25 0:26 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
88 23 0:50 / /run/a\040b\134c rw - tmpfs my\040tmp rw,size=64k,mode=755
"""


def test_entries_are_read_with_and_without_optional_fields():
    assert tuple(mountinfo.parse(TEXT.splitlines())) == (
        MountEntry("/", "/", "ext4", ("rw", "discard")),
        MountEntry("/", "/proc", "proc", ("rw",)),
        MountEntry("/docker/abc", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", ("rw", "cpu", "cpuacct")),
        MountEntry("/", "/run/a b\\c", "tmpfs", ("rw", "size=64k", "mode=755")),
    )


def test_half_a_line_is_no_entry():
    assert tuple(mountinfo.parse([b"23 1 254:0 / /\n", b"\n", b"24 23 0:22 / /proc rw - proc"])) == ()


def test_this_process_has_a_root_and_proc():
    points = {entry.mount_point: entry for entry in mountinfo.read()}
    assert points["/proc"].fstype == "proc"


def test_only_entries_of_the_types_that_are_asked_for_are_read():
    lines = TEXT.splitlines(keepends=True)
    assert [entry.fstype for entry in mountinfo.parse(lines, ["tmpfs", "cgroup"])] == ["cgroup", "tmpfs"]
    assert list(mountinfo.parse(lines, ["cgroup2"])) == []


def test_mount_points_are_read_whatever_is_mounted_there(tmp_path):
    (tmp_path / "mountinfo").write_bytes(TEXT + b"half a line\n")
    path = str(tmp_path / "mountinfo")
    assert mountinfo.points_in("/", path) == {"/", "/proc", "/sys/fs/cgroup/cpu,cpuacct", "/run/a b\\c"}
    assert mountinfo.points_in("/run", path) == mountinfo.points_in("/run/a b\\c", path) == {"/run/a b\\c"}
    assert mountinfo.points_in("/run/a", path) == mountinfo.points_in("/nowhere", path) == set()


def test_the_mounts_around_a_place_are_those_above_at_and_below_it(tmp_path):
    (tmp_path / "mountinfo").write_bytes(TEXT + b"half a line\n")
    path = str(tmp_path / "mountinfo")
    for place in ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/deeper"):
        found = [entry.mount_point for entry in mountinfo.around(place, path)]
        assert found == ["/", "/sys/fs/cgroup/cpu,cpuacct"], place
    assert [entry.mount_point for entry in mountinfo.around("/sys/fs/cgroup/cpu", path)] == ["/"]
    assert [entry.mount_point for entry in mountinfo.around("/run/a b\\c", path)] == ["/", "/run/a b\\c"]
    assert len(mountinfo.around("/", path)) == 4


def test_the_device_of_a_file_is_that_of_its_mount(tmp_path):
    about = os.stat(tmp_path)
    with open("/proc/self/mountinfo") as file:
        devices = {line.split()[2] for line in file}
    major, minor = mountinfo.device_of(str(tmp_path))
    assert f"{major}:{minor}" in devices
    if f"{os.major(about.st_dev)}:{os.minor(about.st_dev)}" in devices:  # not in a subvolume of btrfs
        assert (major, minor) == (os.major(about.st_dev), os.minor(about.st_dev))
    assert mountinfo.device_of(str(tmp_path / "none")) is None
