import os
import select
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from runtime.linux import pidfd

WAITS = "import sys; sys.stdin.read()"


@contextmanager
def process(script=WAITS):
    with subprocess.Popen([sys.executable, "-S", "-c", script], stdin=subprocess.PIPE) as child:
        fd = pidfd.open(child.pid)
        try:
            yield child, fd
        finally:
            os.close(fd)


@pytest.fixture(scope="module")
def exit_info():
    if not pidfd.supports_exit_info():
        pytest.skip("this kernel keeps no exit information")


def test_a_live_process_has_a_pid_and_no_status():
    with process() as (child, fd):
        assert pidfd.pid_of(fd) == child.pid
        assert pidfd.is_alive(fd)
        assert pidfd.exit_status(fd) is None
        assert pidfd.zombie_status(fd) is None


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("import os; os._exit(7)", 7),
        ("import os; os._exit(0)", 0),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
def test_a_status_is_kept_once_reaped_and_shown_by_the_zombie_before(script, status, exit_info):
    with process(script) as (child, fd):
        select.select([fd], [], [])
        assert pidfd.exit_status(fd) is None
        assert pidfd.zombie_status(fd) == status
        child.wait()
        assert pidfd.exit_status(fd) == status
        assert pidfd.zombie_status(fd) is None


def test_the_status_of_a_process_whose_first_thread_ended_first(exit_info):
    script = (
        "import ctypes, os, threading\n"
        "def last():\n"
        "    while open(f'/proc/{os.getpid()}/stat').read().split(') ')[1][0] != 'Z': pass\n"
        "    os._exit(7)\n"
        "threading.Thread(target=last).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with process(script) as (child, fd):
        select.select([fd], [], [])
        assert pidfd.zombie_status(fd) == 7
        child.wait()
        assert pidfd.exit_status(fd) == 7


def test_a_reaped_process_takes_no_signal_and_has_no_pid():
    with process("") as (child, fd):
        child.wait()
        assert not pidfd.is_alive(fd)
        with pytest.raises(ProcessLookupError):
            pidfd.send_signal(fd, signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            pidfd.pid_of(fd)


def test_a_signal_reaches_the_process():
    with process() as (child, fd):
        pidfd.send_signal(fd, signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM


def test_the_probe_leaves_no_child_behind():
    found = pidfd.supports_exit_info()
    assert pidfd.supports_exit_info() == found
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG | 0x40000000)


def test_another_descriptor_is_no_pidfd(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="is no pidfd"):
            pidfd.pid_of(fd)
    finally:
        os.close(fd)


def test_the_peer_is_who_connected():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert pidfd.peer_of(ours) == pidfd.Peer(os.getpid(), os.getuid(), os.getgid())
        fd = pidfd.peer_pidfd(ours)
        if fd is None:
            pytest.skip("this kernel has no SO_PEERPIDFD")
        try:
            assert pidfd.pid_of(fd) == os.getpid()
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)


@pytest.mark.parametrize(("wait_status", "status"), [(0, 0), (7 << 8, 7), (255 << 8, 255), (9, 137), (11 | 0x80, 139)])
def test_wait_statuses_read_as_in_a_shell(wait_status, status):
    assert pidfd.status_of(wait_status) == status
