"""runtime.members: a bundle of ours has what containerd's has, and goes as a whole or not at all."""

import errno
import os
import shutil
import signal
import stat

import pytest

from runtime import members, paths
from runtime.bundle import Bundle
from runtime.errors import AlreadyExists, InvalidArgument

SPEC = '{"linux": {}}'


@pytest.fixture
def given(tmp_path, monkeypatch):
    """containerd's bundle of the member `one` of the sandbox `box`, which is beside it."""
    monkeypatch.setattr(paths, "PODS", str(tmp_path / "pods"))
    bundle = tmp_path / "task/ns/one"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text(SPEC)
    (bundle / "sandbox").write_text("box")
    sandbox = tmp_path / "task/ns/box"
    sandbox.mkdir()
    (sandbox / "address").write_text("unix:///s")
    (sandbox / "shim-binary-path").write_text("/opt/shim")
    (bundle / "work").symlink_to("/var/lib/containerd/work/one")
    return bundle


@pytest.fixture
def path(given):
    path = members.path_of("ns", "box", "one")
    members.make(path, str(given))
    return path


def test_a_member_is_told_by_what_containerd_has_written(given):
    assert members.sandbox_of(str(given)) == "box"
    assert members.sandbox_of(str(given.parent / "box")) == ""
    (given / "sandbox").write_bytes(b"\xff")
    assert members.sandbox_of(str(given)) == "\ufffd"  # which is no id, and refused as such
    (given / "sandbox").unlink()
    (given / "sandbox").mkdir()
    with pytest.raises(IsADirectoryError):
        members.sandbox_of(str(given))


def test_it_has_the_spec_an_empty_root_and_the_way_to_containerds_and_to_the_server(given, path):
    assert sorted(os.listdir(path)) == ["address", "config.json", "given", "rootfs", "server", "work"]
    assert Bundle(path).load_spec() == {"linux": {}}
    assert members.containerd_bundle(path) == str(given)
    with open(f"{path}/address") as file:
        assert file.read() == "unix:///s"
    assert os.listdir(f"{path}/rootfs") == []


def test_what_is_written_there_is_not_containerds(given, path):
    Bundle(path).write_spec({"root": {}})
    assert (given / "config.json").read_text() == SPEC


def test_a_spec_on_another_file_system_is_copied(given, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(members.os, "link", refuse)
    path = members.path_of("ns", "box", "one")
    members.make(path, str(given))
    assert Bundle(path).load_spec() == {"linux": {}}


def test_without_a_spec_who_reads_it_says_so(given):
    (given / "config.json").unlink()
    path = members.path_of("ns", "box", "one")
    members.make(path, str(given))
    with pytest.raises(InvalidArgument, match=r"one/config\.json: No such file"):
        Bundle(path).load_spec()


def test_whoever_may_pass_containerds_may_pass_it(given):
    """In a pod with a user namespace its root's group may (containerd, core/runtime/v2/bundle_linux.go)."""
    if os.geteuid() == 0:
        os.chown(given, 0, 4711)
    given.chmod(0o710)
    path = members.path_of("ns", "box", "one")
    members.make(path, str(given))
    found = os.stat(path)
    assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (os.stat(given).st_gid, 0o710)
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o711


def test_what_a_create_that_was_killed_has_left_is_replaced(given, path):
    os.mkdir(f"{path}/left")
    members.make(path, str(given))
    assert not os.path.exists(f"{path}/left")


def test_a_container_that_nobody_has_ended_is_not_forgotten(given, path):
    Bundle(path).write_record({})
    with pytest.raises(AlreadyExists, match="box/one"):
        members.make(path, str(given))
    assert Bundle(path).load_record() == {}


def test_a_containerd_that_is_started_again_finds_the_shim_of_a_member_where_it_found_the_sandboxs(given, path):
    """It looks for what it writes after a `start`, else on its PATH by the runtime's name (shim_load.go)."""
    assert (given / "shim-binary-path").read_text() == "/opt/shim"
    members.make(path, str(given))
    assert os.readlink(f"{path}/work") == "/var/lib/containerd/work/one"


def test_a_bundle_is_served_as_long_as_the_process_that_has_made_it_lives(given):
    path = members.path_of("ns", "box", "one")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            members.make(path, str(given))
            os.close(reader)
            os.write(writer, b"made")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 4) == b"made"
    os.close(reader)
    assert members.has_live_server(path)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert not members.has_live_server(path)  # a zombie
    os.waitpid(pid, 0)
    assert not members.has_live_server(path)


def test_one_that_was_only_begun_is_not_served_and_one_of_other_pids_is(path):
    with open(f"{path}/server") as file:
        pid, start, pids = file.read().split()
    for text, is_served in ((f"{pid} {start} {pids}x", True), (f"{pid} {start}0 {pids}", False), ("", False)):
        with open(f"{path}/server", "w") as file:
            file.write(text)
        assert members.has_live_server(path) is is_served
    os.unlink(f"{path}/server")
    assert not members.has_live_server(path)


def test_a_member_is_given_up_with_the_sandboxs_bundle_and_any_other_with_its_own(given, path):
    shutil.rmtree(given)
    assert not members.is_abandoned(path)
    shutil.rmtree(given.parent / "box")
    assert members.is_abandoned(path)
    assert members.is_abandoned(str(given))
    assert not members.is_abandoned(str(given.parent))
    assert list(members.sandboxes()) == [("ns", "box")]


def test_a_bundle_that_cannot_be_made_leaves_nothing(given, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(members.os, "symlink", full)
    with pytest.raises(OSError, match="No space"):
        members.make(members.path_of("ns", "box", "one"), str(given))
    assert members.list_members("ns", "box") == []


def test_the_pods_directory_goes_with_the_last(given, path):
    other = members.path_of("ns", "box", "two")
    members.make(other, str(given))
    assert members.list_members("ns", "box") == ["one", "two"]
    members.remove(path)
    assert members.list_members("ns", "box") == ["two"]
    members.remove(other)
    members.remove(other)
    assert os.listdir(f"{paths.PODS}/ns") == []
    assert members.containerd_bundle(other) == ""


def test_a_root_that_is_still_mounted_keeps_everything(path):
    os.mkdir(f"{path}/rootfs/etc")  # stands for EBUSY
    with pytest.raises(OSError, match="not empty"):
        members.remove(path)
    assert os.path.exists(f"{path}/config.json")
