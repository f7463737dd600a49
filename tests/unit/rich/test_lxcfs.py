import subprocess
import sys

import pytest

from runtime.init.base import MountPoint
from runtime.linux.mountinfo import MountEntry
from runtime.rich import lxcfs


def point(path, fstype, **more):
    return MountPoint(path, path, {"destination": path, "type": fstype, **more})


OWN = (point("/proc", "proc"), point("/dev", "tmpfs"), point("/sys", "sysfs"))


def entry(path, fstype):
    return MountEntry("/", path, fstype, ())


@pytest.mark.parametrize(
    ("entries", "mounted"),
    [
        ((), False),
        ((entry("/var/lib/lxcfs", "fuse.lxcfs"),), True),
        ((entry("/var/lib/lxcfs", "ext4"),), False),
        ((entry("/var/lib/lxcfs", "fuse.lxcfs"), entry("/var/lib/lxcfs", "tmpfs")), False),
        ((entry("/elsewhere", "fuse.lxcfs"),), False),
    ],
)
def test_lxcfs_is_what_is_on_top_at_its_place(entries, mounted):
    assert lxcfs.is_mounted(entries) is mounted


def test_every_file_that_answers_is_bound_read_only():
    steps, warnings = lxcfs.plan(None, lxcfs.FILES, OWN)
    mounts = [step.edit.operand for step in steps]
    assert [one["destination"] for one in mounts] == [f"/{name}" for name in lxcfs.FILES]
    assert mounts[0]["source"] == "/var/lib/lxcfs/proc/cpuinfo"
    assert all("ro" in one["options"] for one in mounts)
    assert warnings == ()


def test_only_files_that_answer_are_bound():
    steps, _ = lxcfs.plan(True, ("proc/meminfo",), OWN)
    assert [step.name for step in steps] == ["mount-lxcfs-meminfo"]


@pytest.mark.parametrize(
    ("wanted", "mounted", "files", "warned"),
    [
        (False, True, lxcfs.FILES, False),
        (None, False, (), False),
        (True, False, (), True),
        (None, True, (), True),
        (True, True, (), True),
    ],
)
def test_lxcfs_that_cannot_be_used_is_skipped_with_a_warning_where_that_matters(wanted, mounted, files, warned):
    steps, warnings = lxcfs.plan(wanted, files, OWN, mounted=mounted)
    assert steps == ()
    assert bool(warnings) is warned


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ((*OWN, point("/proc/meminfo", "bind")), "the pod mounts something there"),
        ((*OWN, point("/proc", "bind")), "not in a proc file system"),
        ((point("/sys", "sysfs"),), "not in a proc file system"),
    ],
)
def test_a_file_the_pod_has_mounted_something_over_is_left_alone(points, said):
    steps, warnings = lxcfs.plan(None, ("proc/meminfo",), points)
    assert steps == ()
    assert said in warnings[0]


@pytest.mark.parametrize("output", [b"", b"proc/meminfo\n", b"done\nproc/meminfo\n", b"\xff"])
def test_a_probe_that_did_not_end_found_nothing(output):
    assert lxcfs.parse_probe(output) == ()


def test_the_probe_names_the_files_that_answer(tmp_path):
    (tmp_path / "proc").mkdir()
    for name, data in {"meminfo": b"MemTotal: 1 kB\n", "uptime": b"", "swaps": b""}.items():
        (tmp_path / "proc" / name).write_bytes(data)
    done = subprocess.run(lxcfs.probe_command(sys.executable, str(tmp_path)), capture_output=True, check=True)
    assert lxcfs.parse_probe(done.stdout) == ("proc/meminfo", "proc/swaps")


def test_the_probe_gives_only_names_it_was_asked_about():
    assert lxcfs.parse_probe(b"proc/../../etc/shadow\nproc/stat\ndone\n") == ("proc/stat",)
