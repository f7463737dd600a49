import pytest

from runtime.errors import InvalidArgument
from runtime.linux import mount_options, syscalls
from runtime.linux.mount_options import MountOptions


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["ro", "nosuid", "nodev"], syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV),
        (["rbind", "rw"], syscalls.MS_BIND | syscalls.MS_REC),
        (["ro", "rw"], 0),
        (["rw", "ro"], syscalls.MS_RDONLY),
        (["noatime", "atime", "sync", "async", "mand", "nomand"], 0),
        (["noexec", "nodiratime", "exec", "diratime", "strictatime", "nostrictatime"], 0),
        (
            ["dirsync", "relatime", "remount"],
            syscalls.MS_DIRSYNC | syscalls.MS_RELATIME | syscalls.MS_REMOUNT,
        ),
    ],
)
def test_known_words_become_flags_and_the_last_of_a_contradiction_wins(words, flags):
    assert mount_options.parse(words) == MountOptions(flags=flags)


def test_unknown_words_are_the_file_systems_in_their_order():
    options = mount_options.parse(["lowerdir=/a:/b", "defaults", "ro", "index=off", "", "Bind"])
    assert options == MountOptions(flags=syscalls.MS_RDONLY, data=("lowerdir=/a:/b", "defaults", "index=off", "Bind"))


def test_propagation_is_apart_from_the_flags():
    options = mount_options.parse(["bind", "private", "rslave"])
    assert options == MountOptions(flags=syscalls.MS_BIND, propagation=syscalls.MS_SLAVE | syscalls.MS_REC)


def test_loop_words_and_id_maps_never_reach_the_file_system():
    options = mount_options.parse(["loop", "direct-io", "uidmap=0:1:2,2:9:1", "gidmap=0:1:3"])
    assert options == MountOptions(loop=True, direct_io=True, uidmap="0:1:2,2:9:1", gidmap="0:1:3")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["X-containerd.mkdir.path=/a"], "'X-containerd.mkdir.path=/a'"),
        (["uidmap=0:1:2"], "uidmap='0:1:2', gidmap=''"),
        (["gidmap=0:1:2"], "both or neither"),
    ],
)
def test_what_cannot_be_honoured_is_an_error(words, message):
    with pytest.raises(InvalidArgument, match=message):
        mount_options.parse(words)
