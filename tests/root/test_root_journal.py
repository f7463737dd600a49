"""The record of owed hooks on a disk that is full: a small file system of the test's own."""

import os
from contextlib import suppress

import pytest

from runtime.hooks.journal import Journal, path_of, records
from runtime.linux import syscalls

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


def fill(directory):
    """Use up the disk to its last block, and give back the file that did."""
    path = f"{directory}/fill"
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(directory).f_bfree == 0
    return path


def head(count):
    hooks = [{"name": f"hook-{number}"} for number in range(count)]
    return {"boot": "b", "hooks": hooks, "pinned": "", "subject": {"annotations": {"a": "x" * 10_000}}}


@pytest.fixture
def disk(isolated, tmp_path):
    """Run `action(directory)` with a file system of 256 KiB."""

    def run(action):
        def inside():
            syscalls.mount("disk", tmp_path, "tmpfs", 0, "size=256k,mode=0700")
            action(str(tmp_path))

        isolated(inside)

    return run


@pytest.mark.parametrize("count", [1, 40])
def test_a_disk_that_is_full_after_create_keeps_no_hook_from_being_recorded(disk, count):
    def check(directory):
        path = path_of(f"{directory}/records", "k8s.io", "c1")
        journal = Journal.create(path, head(count))
        fill(directory)
        journal.owe()
        journal.hand()
        journal.end(137, "ShimKilled")
        for number in range(count):
            journal.start(number)
            journal.done(number, "an error that is long " * 1000)
        journal.close()
        found = Journal.open(path)
        assert (found.state.open_hooks, found.state.interrupted) == ((), ())
        found.finish()
        assert not list(records(f"{directory}/records"))

    disk(check)


def test_a_full_disk_is_an_error_at_once_and_leaves_nothing(disk):
    def check(directory):
        os.makedirs(f"{directory}/records/k8s.io")
        filling = fill(directory)
        path = path_of(f"{directory}/records", "k8s.io", "c1")
        with pytest.raises(OSError, match="No space left"):
            Journal.create(path, head(1))
        assert os.listdir(os.path.dirname(path)) == []
        os.unlink(filling)
        Journal.create(path, head(1)).finish()

    disk(check)
