"""The socket's path, and who may take it."""

import fcntl
import os
import platform
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.contract import address


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "d" / "s")


@pytest.fixture
def server(path: str) -> Iterator[socket.socket]:
    taken = address.listen(path)
    assert taken is not None
    with socket.socket(fileno=taken.detach()) as listener:
        yield listener


def mode(path: str) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_the_path_is_the_one_of_containerds_own_shim():
    # printf %s /run/containerd/containerd.sock/k8s.io/abc | sha256sum
    name = "a99a1752d3a0fadfb1f869026f16760475df03a572e20f4ccea9e6c1e5470b72"
    found = address.socket_path("/run/containerd/containerd.sock", "k8s.io", "abc")
    assert found == f"/run/containerd/s/{name}"


@pytest.mark.parametrize(
    ("grpc", "same"), [("/run//containerd/./c.sock", "/run/containerd/c.sock"), ("/a/../b/", "/b")]
)
def test_containerds_address_is_cleaned_as_go_does(grpc: str, same: str):
    assert address.socket_path(grpc, "ns", "g") == address.socket_path(same, "ns", "g")


@pytest.mark.parametrize("group", ["../other/pod", "/../other/pod", "../../x/other/pod", "x/../../other/pod"])
def test_a_group_cannot_lead_into_another_namespace(group: str):
    assert address.socket_path("/c.sock", "mine", group) != address.socket_path("/c.sock", "other", "pod")
    assert address.socket_path("/x", "mine", group) != address.socket_path("/x", "other", "pod")


def test_directory_and_socket_are_for_root_only(path: str, server: socket.socket):
    assert mode(os.path.dirname(path)) == 0o700
    assert mode(path) == 0o600
    assert os.umask(0o022) != 0o177
    assert not server.get_inheritable()


def test_a_server_that_answers_is_left_alone(path: str, server: socket.socket):
    inode = os.stat(path).st_ino
    assert address.listen(path) is None
    assert os.stat(path).st_ino == inode
    address.remove_dead(path)
    assert os.stat(path).st_ino == inode


def test_a_server_too_busy_to_accept_is_not_taken_for_dead(path: str, server: socket.socket):
    waiting = []
    server.listen(0)
    for _ in range(3):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        waiting.append(client)
        try:
            client.connect(path)
        except BlockingIOError:
            break
    else:
        pytest.fail("the backlog never filled")
    assert address.answers(path)
    assert address.listen(path) is None
    for client in waiting:
        client.close()


def test_what_a_dead_server_left_is_replaced(path: str, server: socket.socket):
    server.close()
    assert os.path.exists(path)
    again = address.listen(path)
    assert again is not None
    assert address.answers(path)
    again.close()


def test_a_dead_servers_socket_can_be_removed_more_than_once(path: str, server: socket.socket):
    server.close()
    address.remove_dead(path)
    assert not os.path.exists(path)
    address.remove_dead(path)
    address.remove_dead("/nowhere/at/all")


# The main thread has exited, as that of a killed process has before its descriptors are closed; another one holds them.
DYING = """
import ctypes, socket, sys, threading, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
ctypes.CDLL(None).syscall(SYS_exit, 0)
"""
SYS_EXIT = {"x86_64": 60, "aarch64": 93}


def test_a_server_that_is_dying_is_dead_though_its_socket_takes_connections(tmp_path: Path):
    path = str(tmp_path / "s")
    script = DYING.replace("SYS_exit", str(SYS_EXIT[platform.machine()]))
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            end = time.monotonic() + 10
            while address.answers(path) and time.monotonic() < end:
                time.sleep(0.01)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
            assert not address.answers(path)
            address.remove_dead(path)
            assert not os.path.lexists(path)
        finally:
            process.kill()


def test_of_many_who_want_a_dead_servers_address_one_gets_it(path: str, server: socket.socket):
    server.close()
    won: list[object] = []

    def want() -> None:
        listener = address.listen(path)
        if listener is not None:
            won.append(listener)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].close()  # type: ignore[attr-defined]


def test_the_address_file_is_replaced_whole(tmp_path: Path):
    (tmp_path / "address").write_text("unix:///a much longer address that was there before")
    before = os.stat(tmp_path / "address").st_ino
    address.write_address_file(str(tmp_path), "unix:///s")
    assert (tmp_path / "address").read_text() == "unix:///s"
    assert os.stat(tmp_path / "address").st_ino != before
    assert os.listdir(tmp_path) == ["address"]
    assert mode(str(tmp_path / "address")) == 0o600


@pytest.mark.parametrize("act", [address.listen, address.remove_dead])
def test_who_looks_at_an_address_to_change_it_does_so_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act):
    looks = []

    def answers(path: str) -> bool:
        directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(directory)
        looks.append(path)
        return True

    monkeypatch.setattr(address, "answers", answers)
    path = tmp_path / "s"
    path.touch()
    assert act(str(path)) is None
    assert (looks, path.exists()) == ([str(path)], True)
