"""The checks of who connects, with this Python as the launcher and ourselves as the container's init."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from runtime.cgroup import Cgroup, locate
from runtime.errors import NotFound
from runtime.linux import pidfd
from shim.task.application.adopt import AppSocket

# What a launcher does on its connection; argv: the socket.
LAUNCHER = """
import os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
byte, fds, _, _ = socket.recv_fds(connection, 1, 3)
os.write(fds[1], b"out %d %d" % (len(byte), len(fds)))
"""
DIES = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
EXECUTABLE = os.stat(sys.executable)


@contextmanager
def app_socket(path, kind=AppSocket, **other):
    known = {"init_pid": os.getpid(), "cgroup": None, "launcher": EXECUTABLE, "root_uid": os.getuid()}
    listening = kind(str(path), **{**known, **other}, loop=asyncio.get_running_loop())
    try:
        yield listening
    finally:
        listening.close()


@contextmanager
def connector(path, script=LAUNCHER):
    with subprocess.Popen([sys.executable, "-S", "-c", script, path]) as child:
        try:
            yield child
        finally:
            child.kill()


def connect(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


async def adopted_after(path, refused, caplog, **other):
    """Let `refused()` do its worst, then the launcher come; what was logged."""
    with app_socket(path, **other) as listening, caplog.at_level(logging.WARNING):
        refused()
        with connector(path) as child:
            adopted = await listening.accept()
            assert adopted.pid == child.pid
            adopted.close()
    return caplog.text


def test_the_launcher_is_adopted_and_given_three_descriptors(tmp_path):
    path = tmp_path / "app.sock"
    reader, writer = os.pipe()

    async def play():
        with app_socket(path) as listening, connector(path) as child:
            assert path.stat().st_mode & 0o777 == 0o600
            adopted = await listening.accept()
            assert adopted.pid == child.pid == pidfd.pid_of(adopted.pidfd)
            assert not path.exists()
            adopted.release([0, writer, writer])
            assert child.wait() == 0
            adopted.close()

    asyncio.run(play())
    os.close(writer)
    with open(reader) as said:
        assert said.read() == "out 1 3"


async def nobody_is_adopted(listening):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await listening.accept()


def test_another_program_is_refused(tmp_path, caplog):
    path = tmp_path / "app.sock"

    async def play():
        with app_socket(path, launcher=os.stat("/bin/cat")) as listening, connect(path):
            await nobody_is_adopted(listening)

    asyncio.run(play())
    assert "does not run the launcher" in caplog.text


def test_a_connector_that_has_died_is_refused(tmp_path, caplog):
    path = tmp_path / "app.sock"

    def dies():
        with connector(path, DIES) as child:
            assert child.wait() == 0

    assert "has ended" in asyncio.run(adopted_after(path, dies, caplog))


def test_a_connector_that_is_a_zombie_is_refused(tmp_path, caplog):
    path = tmp_path / "app.sock"
    zombies = []

    def dies():
        zombies.append(subprocess.Popen([sys.executable, "-S", "-c", DIES, path]))
        os.waitid(os.P_PID, zombies[0].pid, os.WEXITED | os.WNOWAIT)

    try:
        said = asyncio.run(adopted_after(path, dies, caplog))
        assert f"container {os.path.basename(os.path.dirname(path))}: " in said
        assert "refused a connection" in said
    finally:
        zombies[0].wait()


class EndsMeanwhile(AppSocket):
    """Its first connector dies once all that /proc says of it has passed."""

    def __init__(self, *args, **known):
        super().__init__(*args, **known)
        self.ended = asyncio.Event()

    def _check_process(self, pid):
        super()._check_process(pid)
        if not self.ended.is_set():
            self.ended.set()
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_connector_that_dies_during_the_checks_is_refused(tmp_path, caplog):
    path = tmp_path / "app.sock"

    async def play():
        with app_socket(path, kind=EndsMeanwhile) as listening, connector(path) as first:
            accepting = asyncio.ensure_future(listening.accept())
            await listening.ended.wait()
            assert first.wait() == -signal.SIGKILL
            with connector(path) as second:
                adopted = await accepting
                assert adopted.pid == second.pid
                adopted.close()

    asyncio.run(play())
    assert "has ended" in caplog.text


def test_another_user_is_refused(tmp_path, caplog):
    path = tmp_path / "app.sock"

    async def play():
        with app_socket(path) as listening:
            listening._root_uid += 1  # what a chown to it would take root for
            with connect(path):
                await nobody_is_adopted(listening)

    asyncio.run(play())
    assert "not the container's root" in caplog.text


def test_a_process_outside_of_the_cgroup_is_refused(tmp_path, caplog):
    path = tmp_path / "app.sock"
    ours = locate(os.getpid())
    below = Cgroup(
        unified=ours.unified and f"{ours.unified}/container",
        controllers=tuple((name, f"{directory}/container") for name, directory in ours.controllers),
    )

    async def play():
        with app_socket(path, cgroup=below) as listening, connect(path):
            await nobody_is_adopted(listening)

    asyncio.run(play())
    assert "outside of the container's cgroup" in caplog.text


def test_a_process_within_the_cgroup_passes(tmp_path, caplog):
    path = tmp_path / "app.sock"
    assert asyncio.run(adopted_after(path, lambda: None, caplog, cgroup=locate(os.getpid()))) == ""


def test_many_silent_connections_hold_nothing_up_and_fill_no_log(tmp_path, caplog):
    path = tmp_path / "app.sock"
    script = """
import os, socket, sys
for _ in range(30): socket.socket(socket.AF_UNIX).connect(sys.argv[1])
"""

    async def play():
        with app_socket(path, launcher=os.stat("/bin/cat")) as listening, connector(path, script) as child:
            with caplog.at_level(logging.WARNING):
                accepting = asyncio.ensure_future(listening.accept())
                async with asyncio.timeout(20):
                    # It can only end when each of its connections found room in the backlog.
                    await asyncio.get_running_loop().run_in_executor(None, child.wait)
                accepting.cancel()
            assert child.returncode == 0

    asyncio.run(play())
    assert 1 <= len(caplog.records) <= 8


def test_a_launcher_that_dies_before_its_release_is_reported(tmp_path):
    path = tmp_path / "app.sock"

    async def play():
        with app_socket(path) as listening, connector(path) as child:
            adopted = await listening.accept()
            child.kill()
            child.wait()
            with pytest.raises(NotFound, match="launcher has ended"):
                adopted.release([0, 1, 2])
            adopted.close()

    asyncio.run(play())


def test_a_path_longer_than_an_address_works(tmp_path):
    directory = tmp_path / ("d" * 120)
    directory.mkdir()

    async def play():
        with app_socket(directory / "app.sock"):
            assert (directory / "app.sock").is_socket()
        assert not (directory / "app.sock").exists()

    asyncio.run(play())
