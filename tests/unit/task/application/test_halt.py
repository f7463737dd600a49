"""shim.task.application.halt: who may say that an init is done, and how often."""

import os
import socket

import pytest

from shim.task.application import listening
from shim.task.application.halt import HaltSocket
from tests.fakes.loop import in_loop, open_fds, until


@in_loop
async def test_the_socket_is_for_the_containers_root_alone(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(listening.os, "chown", lambda name, uid, gid, **how: given.append((name, uid, gid)))
    path = tmp_path / "halt.sock"
    halt_socket = HaltSocket(str(path), lambda: None, root_uid=100_000)
    assert path.stat().st_mode & 0o777 == 0o600
    assert given == [("halt.sock", 100_000, -1)]
    halt_socket.close()


@in_loop
async def test_it_is_said_once_and_the_socket_goes_with_it(tmp_path):
    path, said = tmp_path / "halt.sock", []
    HaltSocket(str(path), lambda: said.append(path.exists()), root_uid=os.getuid())
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.connect(str(path))
        second.setblocking(False)
        second.connect(str(path))
        await until(lambda: said)
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(FileNotFoundError):
            late.connect(str(path))
    assert said == [False]


@in_loop
async def test_a_path_longer_than_a_sockets_name_serves(tmp_path):
    directory = tmp_path / ("x" * 120)
    directory.mkdir()
    halt_socket = HaltSocket(str(directory / "halt.sock"), lambda: None, root_uid=os.getuid())
    assert (directory / "halt.sock").is_socket()
    halt_socket.close()
    halt_socket.close()
    assert not (directory / "halt.sock").exists()


@in_loop
async def test_a_socket_that_cannot_be_made_leaves_nothing_open(tmp_path):
    before = open_fds()
    with pytest.raises(FileNotFoundError):
        HaltSocket(str(tmp_path / "gone" / "halt.sock"), lambda: None)
    assert open_fds() == before
