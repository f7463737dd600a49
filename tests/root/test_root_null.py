"""A /dev/null of one's own: root in a container may do with it what it likes."""

import os
import stat

from runtime.linux import null


def test_it_is_dev_null_in_all_but_who_owns_it():
    node = os.stat(os.devnull)
    first, second = null.open_own(), null.open_own()
    try:
        found = os.fstat(first)
        assert (found.st_mode, found.st_rdev) == (stat.S_IFCHR | 0o666, node.st_rdev)
        assert len({found.st_dev, os.fstat(second).st_dev, node.st_dev}) == 3
        assert os.readlink(f"/proc/self/fd/{first}") == os.devnull
        assert (os.write(first, b"gone"), os.read(first, 1)) == (4, b"")
        os.fchmod(first, 0)
        os.fchown(first, 1234, 1234)
        assert os.fstat(second).st_mode == stat.S_IFCHR | 0o666
        assert (os.stat(os.devnull).st_mode, os.stat(os.devnull).st_uid) == (node.st_mode, node.st_uid)
    finally:
        os.close(first)
        os.close(second)
