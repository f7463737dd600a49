import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack, closing

import pytest

from runtime.linux import pidfd, proc_events, syscalls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

WAITS = "import os, sys; sys.stdin.read(); "
PATIENCE_S = 10
CLONE_NEWPID = 0x20000000  # <linux/sched.h>


@pytest.fixture
def connector():
    if not proc_events.available():
        pytest.skip("the process connector does not speak to us here")


def end_of(script):
    """What is told of a process of that script, after many others have come and gone."""
    argv = [sys.executable, "-S", "-c", WAITS + script]
    with ExitStack() as stack:
        child = stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE))
        with closing(proc_events.ExitEvents(child.pid)) as events:
            for _ in range(20):
                subprocess.run(["/bin/true"], check=True)
            assert events.read() is None
            assert select.select([events], [], [], 0)[0] == []  # the filter lets nothing of others in
            child.stdin.close()
            assert select.select([events], [], [], PATIENCE_S)[0] == [events]
            return events.read()


@pytest.mark.parametrize(
    ("script", "status"), [("os._exit(0)", 0), ("os._exit(7)", 7), ("os.kill(os.getpid(), 9)", 137)]
)
def test_the_end_of_another_process_is_told(connector, script, status):
    assert end_of(script) == status


MANY = """import ctypes, signal, threading, time
for _ in range(1000):
    t = threading.Thread(target=int)
    t.start()
    t.join()
"""
LATER = "threading.Thread(target=lambda: (time.sleep(0.2), os._exit(5))).start(); ctypes.CDLL(None).pthread_exit(None)"
"""The first thread ends, and another one ends the process later."""


@pytest.mark.parametrize(
    ("script", "status"),
    [("os._exit(9)", 9), ("os._exit(0)", 0), ("signal.raise_signal(signal.SIGKILL)", 137), (LATER, 5)],
)
def test_threads_that_ended_are_not_the_process_however_many(connector, script, status):
    with subprocess.Popen([sys.executable, "-S", "-c", WAITS + MANY + script], stdin=subprocess.PIPE) as child:
        fd = pidfd.open(child.pid)
        with closing(proc_events.ExitEvents(child.pid)) as events:
            child.stdin.close()
            select.select([fd], [], [])
            child.wait()
            said = events.read()
        os.close(fd)
    assert said == status


def test_two_listeners_each_hear_their_own(connector):
    with ExitStack() as stack:
        first, second = (stack.enter_context(subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)) for _ in range(2))
        one, two = (stack.enter_context(closing(proc_events.ExitEvents(child.pid))) for child in (first, second))
        second.send_signal(signal.SIGTERM)
        assert select.select([one, two], [], [], PATIENCE_S)[0] == [two]
        assert (one.read(), two.read()) == (None, 143)
        first.send_signal(signal.SIGKILL)
        assert select.select([one], [], [], PATIENCE_S)[0] == [one]
        assert one.read() == 137


@pytest.mark.parametrize(
    ("namespace", "error"),
    [
        (syscalls.CLONE_NEWNET, ConnectionRefusedError),
        (syscalls.CLONE_NEWUSER, PermissionError),
        (CLONE_NEWPID, PermissionError),
    ],
)
def test_in_other_namespaces_it_is_refused_in_words(isolated, namespace, error):
    def action():
        syscalls.unshare(namespace)
        pid = os.fork()  # only a child is in a new pid namespace
        if pid == 0:
            try:
                proc_events.ExitEvents(os.getpid())
            except error as err:
                os._exit(0 if "process connector" in str(err) and not proc_events.available() else 2)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0

    isolated(action)
