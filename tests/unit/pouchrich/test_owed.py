"""pouchrich.owed: which process holds a record."""

import os

from pouchrich import owed
from runtime.hooks.journal import Journal, path_of


def test_a_lock_on_a_file_of_another_file_system_holds_no_record(tmp_path):
    """The inode numbers are equal. Devices are hexadecimal in /proc/locks, and decimal in /proc/self/mountinfo."""
    path = path_of(str(tmp_path), "k8s.io", "abc")
    Journal.create(path, {"hooks": [{"name": "one"}]}).close()
    directory = os.open(tmp_path, os.O_PATH)
    with open(f"/proc/self/fdinfo/{directory}") as file:
        (mount,) = (line.split()[1] for line in file if line.startswith("mnt_id:"))
    os.close(directory)
    (tmp_path / "mountinfo").write_text(f"1{mount} 1 0:9 / / rw - a a rw\n{mount} 1 254:26 / / rw - btrfs b rw\n")
    inode = os.stat(path).st_ino

    def holder(device):
        (tmp_path / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE 77 {device}:{inode} 0 EOF\n")
        where = {"locks": str(tmp_path / "locks"), "mounts": str(tmp_path / "mountinfo")}
        (found,) = owed.read(str(tmp_path), **where)
        return found.holder

    assert [holder(device) for device in ("fe:1a", "fe:1b", "00:1a", "00:09")] == [77, 0, 0, 0]
    (tmp_path / "mountinfo").write_text("")
    assert holder("fe:1a") == 0
