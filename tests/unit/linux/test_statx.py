import gc
import os
import sys

import pytest

from runtime.linux import statx


@pytest.mark.parametrize("path", ["/proc/self/exe", "/", sys.executable, "/dev/null"])
def test_identity_is_what_stat_says(path):
    found = os.stat(path)
    assert statx.identity(path) == (found.st_dev, found.st_ino)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"statx: .*none"):
        statx.identity(f"{tmp_path}/none")


def test_it_is_asked_again_and_again_without_anything_for_the_garbage_collector():
    gc.collect()
    for _ in range(3):
        statx.identity("/")
    assert gc.collect() == 0
