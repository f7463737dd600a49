"""shim.spawner.launch: where a spawner may listen, and of two who would, one does."""

import os
import socket
import stat

import pytest

from shim.spawner import launch
from shim.spawner.launch import take_lock
from shim.spawner.request import HUNG


@pytest.fixture
def path(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    return str(directory / "s.sock.lock")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_write_in_is_no_place(path, mode):
    os.chmod(os.path.dirname(path), mode)
    with pytest.raises(PermissionError, match=f"mode {mode:04o}"):
        take_lock(path)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_lock_is_ours_alone_and_has_our_pid(path):
    fd = take_lock(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path) as file:
        assert file.read() == str(os.getpid())
    assert take_lock(path) is None
    assert take_lock(path, hung=os.getpid() + 1) is None
    os.close(fd)


@pytest.mark.parametrize("hung", [os.getpid(), HUNG], ids=["by its pid", "whoever it is"])
def test_one_that_hangs_loses_its_lock_and_its_socket(path, hung):
    first = take_lock(path)
    other = path.removesuffix(".lock")
    with open(other, "w"):
        pass
    second = take_lock(path, hung=hung)
    assert second is not None
    assert not launch.is_file(first, path)
    assert not os.path.exists(other)
    for fd in (first, second):
        os.close(fd)


def test_a_lock_that_was_removed_while_it_was_waited_for_is_none(path, monkeypatch):
    real = launch._lock

    def locked(fd):
        os.unlink(path)
        return real(fd)

    monkeypatch.setattr(launch, "_lock", locked)
    assert take_lock(path) is None


def test_no_link_leads_to_a_lock_elsewhere(path, tmp_path):
    (tmp_path / "elsewhere").touch()
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(OSError, match="symbolic links"):
        take_lock(path)
    assert (tmp_path / "elsewhere").read_text() == ""


def test_a_spawners_socket_is_its_users_alone_and_replaces_a_dead_ones(tmp_path):
    path = tmp_path / "s"
    path.touch()
    before = os.umask(0)
    try:
        listener = launch._listen(str(path))
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(str(path))
    os.close(listener)
