"""The dumb-init that is built here: which signals reach its child, and how often."""

import os
import pty
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runtime import libexec
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

NUMBERS = [one for one in range(1, 65) if one not in (9, 17, 18, 19, 20, 21, 22, 32, 33)]
"""All that a shell may handle and that stop nobody; 32 and 33 are glibc's own."""
TRAPS = "; ".join(f"trap 'echo got {number}' {number}" for number in NUMBERS)
WAITING = "echo ready; while kill -0 $PPID; do sleep 0.05; done 2>/dev/null"


COUNTING = """
$| = 1; for my $name (qw(INT QUIT)) { $SIG{$name} = sub { print "got $name\n" } }
$SIG{TERM} = sub { exit 5 }; print "ready\n"; select(undef, undef, undef, 0.05) while 1;
"""
"""A shell would take two that come together for one."""


@pytest.fixture
def program() -> str:
    return libexec.path("dumb-init")


def said(fd: int) -> bytes:
    """What there is to read by now."""
    time.sleep(0.01)
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("flags", [("-c",), ()], ids=["one child", "session"])
def test_every_signal_reaches_the_child_each_time(program: str, flags: tuple[str, ...]) -> None:
    """Real-time ones too, of which dumb-init 1.2.5 loses the first, and another by writing behind an array."""
    child = subprocess.Popen([program, *flags, "--", "bash", "-c", f"{TRAPS}; {WAITING}"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    out, got = child.stdout.fileno(), b""
    os.set_blocking(out, False)

    def shows(text: bytes, times: int) -> bool:
        nonlocal got
        got += said(out)
        return got.count(text) >= times

    try:
        until(lambda: shows(b"ready\n", 1), "the child")
        for times in (1, 2):
            for number in NUMBERS:
                child.send_signal(number)
                until(lambda n=number, t=times: shows(f"got {n}\n".encode(), t), f"{number}")  # type: ignore[misc]
    finally:
        child.kill()
        child.wait()
        os.set_blocking(out, True)
        child.communicate()  # until its child has noticed and ended, too


class InTerminal:
    """dumb-init with a perl script, on a terminal of its own; `got` is what the script has printed."""

    def __init__(self, program: str, script: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execv(program, [program, "-c", "--", "perl", "-e", script])
        os.set_blocking(self.master, False)
        self.got = b""
        until(lambda: self.shows(b"ready"), "the child")

    def shows(self, text: bytes) -> bool:
        self.got += said(self.master)
        return text in self.got

    def types(self, key: bytes) -> None:
        os.write(self.master, key)

    def end(self) -> int:
        """Have TERM end it; how it ended."""
        os.kill(self.pid, signal.SIGTERM)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


def test_what_a_terminal_sends_reaches_the_child_once(program: str) -> None:
    one = InTerminal(program, COUNTING)
    one.types(b"\x03")
    until(lambda: one.shows(b"got INT"), "the interrupt")
    one.types(b"\x1c")
    until(lambda: one.shows(b"got QUIT"), "the quit")
    time.sleep(0.2)
    one.shows(b"")
    assert (one.got.count(b"got INT"), one.got.count(b"got QUIT")) == (1, 1)
    os.kill(one.pid, signal.SIGINT)
    until(lambda: one.shows(b"got INT") and one.got.count(b"got INT") == 2, "one that somebody has sent")
    assert one.end() == 5


def test_what_a_terminal_sends_reaches_a_child_in_a_group_of_its_own(program: str) -> None:
    """As of coreutils' timeout, whose setpgid(2) fails where it is PID 1 itself, a session's leader."""
    one = InTerminal(program, f"setpgrp; {COUNTING}")
    try:
        one.types(b"\x03")
        until(lambda: one.shows(b"got INT"), "the interrupt")
    finally:
        one.end()


def test_without_a_terminal_the_child_leads_a_session_and_a_group_as_without_dumb_init(program: str) -> None:
    """An OCI runtime makes the process of a container so, and scripts clean up with `kill -- -$$`."""
    script = (
        'read -r pid _ _ _ group session _ </proc/self/stat; [ "$pid $pid" = "$group $session" ] && kill -TERM -- -$$'
    )
    done = subprocess.run([program, "-c", "--", "bash", "-c", script], check=False, timeout=20)
    assert done.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("flags", [("-c",), ()], ids=["one child", "session"])
def test_with_a_terminal_the_child_leads_the_session_that_has_it(program: str, flags: tuple[str, ...]) -> None:
    script = "read -r pid _ _ _ group session tty front _ </proc/self/stat; echo $pid $group $session $front >/dev/tty"
    pid, master = pty.fork()
    if pid == 0:
        os.execv(program, [program, *flags, "--", "bash", "-c", script])
    said = b""
    while b"\n" not in said:
        said += os.read(master, 100)
    os.waitpid(pid, 0)
    os.close(master)
    assert len(said.split()) == 4
    assert len(set(said.split())) == 1


def test_a_child_that_leaves_the_foreground_may_read_the_terminal_as_without_dumb_init(program: str) -> None:
    """coreutils' timeout starts its command in a group of its own, unless it leads the session itself."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(program, [program, "-c", "--", "timeout", "30", "sh", "-c", "echo ready; read -r word; exit $word"])
    os.set_blocking(master, False)
    until(lambda: b"ready" in said(master), "the shell")
    os.write(master, b"5\n")
    until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None, "its end")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(master)


def test_the_first_hangup_that_somebody_sends_reaches_a_child_with_a_terminal(program: str) -> None:
    """The kernel sends one to dumb-init itself, as it hands its terminal on."""
    one = InTerminal(program, COUNTING.replace("INT QUIT", "HUP CONT"))
    try:
        for number, text in ((signal.SIGHUP, b"got HUP"), (signal.SIGCONT, b"got CONT")):
            assert not one.shows(text)
            os.kill(one.pid, number)
            until(lambda t=text: one.shows(t), "the signal")  # type: ignore[misc]
    finally:
        assert one.end() == 5


BLOCKING = r"""
#include <stdio.h>
pid_t child_pid;
char use_setsid;
static void handler(int number) { (void)number; }
int main(void)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	signal(SIGTERM, handler);
	char line[256];
	FILE *status = fopen("/proc/self/status", "r");
	while (fgets(line, sizeof line, status))
		if (strncmp(line, "SigBlk:", 7) == 0)
			fputs(line, stdout);
	return 0;
}
"""
"""What dumb-init does before it forks."""


def test_no_signal_comes_through_before_dumb_init_waits_for_it(tmp_path: Path) -> None:
    """musl unblocks 34 as the first handler is installed: it would end dumb-init, or as PID 1 be lost."""
    source, made = tmp_path / "blocking.c", str(tmp_path / "blocking")
    source.write_text(BLOCKING)
    header = Path(__file__).resolve().parents[2] / "dumb-init/signals.h"
    subprocess.run(["musl-gcc", "-std=gnu99", "-static", "-include", header, "-o", made, source], check=True)
    shown = subprocess.run([made], capture_output=True, text=True, check=True).stdout
    blocked = int(shown.split()[1], 16)
    assert [number for number in range(1, 65) if not blocked >> (number - 1) & 1] == [signal.SIGKILL, signal.SIGSTOP]


def test_its_check_leaves_no_process(program: str, tmp_path: Path) -> None:
    """What an installer leaves would keep the installation's lock, which its processes inherit."""
    script = Path(__file__).resolve().parents[2] / "hack/build-dumb-init.sh"
    reader, writer = os.pipe2(os.O_NONBLOCK)
    shutil.copy(f"{program}.source", tmp_path)
    subprocess.run([script, shutil.copy(program, tmp_path)], pass_fds=[writer], check=True)
    os.close(writer)
    assert os.read(reader, 1) == b""  # BlockingIOError while any process has the other end
    os.close(reader)
