"""What is decided before the kernel is asked. The mounts themselves are in tests/root."""

import os
from contextlib import ExitStack

import pytest

from runtime import rootfs
from runtime.errors import InvalidArgument, PouchrichError
from runtime.linux import mounts
from runtime.rootfs import Mount


def never(argv):
    raise AssertionError(f"no helper was to run: {argv}")


def test_no_mounts_is_nothing_to_do(tmp_path):
    rootfs.mount_all([], str(tmp_path / "rootfs"), run=never)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def helpers(tmp_path, monkeypatch):
    """A directory on PATH with the helpers in it."""
    for name in ("mount.fuse", "mount.fuse3"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", f"/usr/bin:{tmp_path}")
    return tmp_path


def test_a_fuse_type_whose_helper_is_not_on_path_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(PouchrichError, match=rf"mount\.fuse3 is not in {tmp_path}$"):
        rootfs.mount_all([Mount("fuse3.x", "x", "", ())], str(tmp_path / "rootfs"), run=never)


def test_a_fuse_type_is_its_helpers_work_with_every_option(tmp_path, helpers):
    seen = []
    mount = Mount("fuse.sshfs", "host:/dir", "", ("ro", "allow_other"))
    rootfs.mount_all([mount], str(tmp_path / "rootfs"), run=lambda argv: seen.append(argv) or 0)
    target = str(tmp_path / "rootfs")
    assert seen == [[f"{helpers}/mount.fuse", "host:/dir", target, "-o", "ro", "-o", "allow_other", "-t", "sshfs"]]


@pytest.mark.usefixtures("helpers")
def test_a_helper_that_fails_is_an_error_that_names_it(tmp_path):
    mount = Mount("fuse3.x", "x", "", ())
    with pytest.raises(PouchrichError, match=r"^rootfs mount 0: mount fuse3\.x at .*: mount\.fuse3 exited with"):
        rootfs.mount_all([mount], str(tmp_path / "rootfs"), run=lambda argv: 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("X-containerd.mkfs.fs=ext4",), r"^rootfs mount 0: mount option 'X-containerd\.mkfs\.fs=ext4'"),
        (("uidmap=0:0:1",), "both or neither"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_the_callers_error(tmp_path, options, message):
    with pytest.raises(InvalidArgument, match=message):
        rootfs.mount_all([Mount("tmpfs", "tmpfs", "", options)], str(tmp_path / "rootfs"), run=never)


def test_options_of_a_page_or_more_are_refused(tmp_path):
    mount = Mount("tmpfs", "tmpfs", "", ("x" * 70000,))
    with pytest.raises(InvalidArgument, match="mount options is too long"):
        rootfs.mount_all([mount], str(tmp_path / "rootfs"), run=never)


def test_a_target_that_is_not_in_the_rootfs_is_an_error_with_its_path(tmp_path):
    mount = Mount("tmpfs", "tmpfs", "/no/such", ())
    with pytest.raises(PouchrichError, match=r"tmpfs at .*/rootfs/no/such: .*No such file") as caught:
        rootfs.mount_all([mount], str(tmp_path / "rootfs"), run=never)
    assert type(caught.value) is PouchrichError  # not NotFound: to containerd that would mean "no such task"


def test_unmounting_what_is_not_mounted_or_not_there_is_a_success(tmp_path):
    rootfs.unmount_all(str(tmp_path))
    rootfs.unmount_all(str(tmp_path / "missing"))
    assert tmp_path.is_dir()


def test_a_mount_point_is_told_from_what_is_below_it(tmp_path):
    assert "/proc" in mounts.mount_points("/proc")
    assert mounts.mount_points("/proc/self") == ()
    assert mounts.mount_points(str(tmp_path)) == ()


def test_options_of_a_page_without_room_for_their_end_are_refused(tmp_path, monkeypatch):
    mounted = []
    monkeypatch.setattr(rootfs.syscalls, "mount", lambda *about: mounted.append(len(about[-1])))
    page = os.sysconf("SC_PAGESIZE")
    rootfs.mount_all([Mount("tmpfs", "x", "", ("a" * (page - 1),))], str(tmp_path), run=None)
    with pytest.raises(InvalidArgument, match="mount options is too long"):
        rootfs.mount_all([Mount("tmpfs", "x", "", ("a" * page,))], str(tmp_path), run=None)
    assert mounted == [page - 1]


def test_what_an_interrupted_mount_left_beside_the_root_goes_too(monkeypatch):
    unmounted = []
    monkeypatch.setattr(rootfs.mounts, "unmount_tree", unmounted.append)
    rootfs.unmount_all("/bundle/rootfs")
    assert unmounted == ["/bundle/rootfs", "/bundle/rootfs.layers"]


def test_a_working_directory_is_this_threads_alone(tmp_path, monkeypatch):
    before, unshared = os.getcwd(), []
    monkeypatch.setattr(rootfs.syscalls, "unshare", lambda what: unshared.append((what, os.getcwd())))
    with rootfs._working_directory(str(tmp_path)):
        assert os.getcwd() == str(tmp_path)
    assert unshared == [(rootfs.syscalls.CLONE_FS, before)]
    assert os.getcwd() == before


def test_a_view_of_a_layer_cannot_be_written_to(tmp_path, monkeypatch):
    cloned = []

    def clone(layer, userns, **how):
        cloned.append(how)
        return os.open(tmp_path, os.O_PATH)

    monkeypatch.setattr(rootfs.idmap, "clone_mapped", clone)
    monkeypatch.setattr(rootfs.idmap, "attach", lambda tree, view: None)
    monkeypatch.setattr(rootfs.syscalls, "umount2", lambda path, flags: None)
    with ExitStack() as undo:
        rootfs._mount_view("/layer", str(tmp_path / "view"), 3, undo)
    assert cloned == [{"read_only": True}]
    assert not (tmp_path / "view").exists()
