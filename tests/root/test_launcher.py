"""The compiled launcher, started as an init would, with this process as the shim."""

import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import traceback

import pytest

from runtime.config.values import CAPABILITIES
from runtime.init.boot import AppProcess
from runtime.init.launcher_settings import encode
from runtime.linux import pidfd, syscalls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CLONE_NEWPID = 0x20000000
SOURCE = pathlib.Path(__file__).parents[2]
ALL = (1 << len(CAPABILITIES)) - 1
PATH = "PATH=/usr/bin:/bin"
STATUS = pathlib.Path("/proc/self/status").read_text()
HELD = int(STATUS.split("CapBnd:")[1].split()[0], 16)


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    built = tmp_path_factory.mktemp("launcher") / "launch"
    subprocess.run([SOURCE / "hack/build-launcher.sh", built], check=True)
    return str(built)


def drain(fd):
    with open(fd, "rb") as file:
        return file.read()


class Stage:
    """/run/pouchrich of a mount namespace of our own, and one launcher in it."""

    def __init__(self, program, settings):
        syscalls.mount("tmpfs", "/run", "tmpfs")
        os.mkdir("/run/pouchrich", 0o711)
        self.program = program
        if isinstance(settings, AppProcess):
            settings = encode(settings)
        with open(os.open("/run/pouchrich/app", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(settings)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("/run/pouchrich/app.sock")
        self.listener.listen()
        self.listener.settimeout(20)

    def start(self, *argv, prepare=lambda: None):
        """Its standard error until it is adopted is `early`."""
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            prepare()
            os.dup2(writer, 2)
            os.execve(self.program, ["launch", *(argv or ("app",))], {"INIT": "its own environment"})
        os.close(writer)
        self._early = reader

    def release(self, stdin=None, out=None):
        connection, _ = self.listener.accept()
        self.peer = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        reader, writer = os.pipe()
        error_reader, error_writer = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY)
        socket.send_fds(connection, [b"x"], [stdin or null, out or writer, out or error_writer])
        os.close(writer)
        os.close(error_writer)
        self.connection = connection
        self.out = drain(reader)
        self.err = drain(error_reader).decode()

    @property
    def early(self):
        return drain(self._early).decode()

    def end(self):
        return pidfd.status_of(os.waitpid(self.pid, 0)[1])


def run(program, settings, *argv, prepare=lambda: None):
    stage = Stage(program, settings)
    stage.start(*argv, prepare=prepare)
    stage.release()
    stage.status = stage.end()
    return stage


def status_fields(program, **settings):
    stage = run(program, AppProcess(args=("/bin/cat", "/proc/self/status"), **settings))
    assert stage.status == 0, stage.err
    return dict(line.split(":\t", 1) for line in stage.out.decode().splitlines())


def refused(program, settings, status, said):
    stage = run(program, settings)
    assert (stage.status, stage.err) == (status, f"pouchrich-launch: {said}\n")


def test_the_application_has_the_pid_that_connected(program, isolated):
    def action():
        stage = run(program, AppProcess(args=("/bin/sh", "-c", "echo $$")))
        assert int(stage.out) == stage.pid == stage.peer

    isolated(action)


def test_the_exit_status_is_the_applications(program, isolated):
    isolated(lambda: exec_and_end(program, "exit 7", 7))
    isolated(lambda: exec_and_end(program, "kill -KILL $$", 137))


def exec_and_end(program, script, status):
    assert run(program, AppProcess(args=("/bin/sh", "-c", script))).status == status


def test_user_group_and_supplementary_groups(program, isolated):
    def action():
        fields = status_fields(program, uid=1000, gid=2000, groups=(7, 3000000000))
        assert fields["Uid"].split() == ["1000"] * 4
        assert fields["Gid"].split() == ["2000"] * 4
        assert fields["Groups"].split() == ["7", "3000000000"]

    isolated(action)


def test_inherited_groups_are_dropped(program, isolated):
    def action():
        stage = Stage(program, AppProcess(args=("/usr/bin/id", "-G"), uid=5, gid=6))
        stage.start(prepare=lambda: os.setgroups([1, 2]))
        stage.release()
        assert (stage.end(), stage.out) == (0, b"6\n")

    isolated(action)


def test_dropping_all_leaves_none_even_to_root(program, isolated):
    def action():
        fields = status_fields(program)
        assert {fields[name] for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}

    isolated(action)


def test_roots_capabilities_are_the_sets_given(program, isolated):
    def action():
        mask = 1 << 0 | 1 << 10
        fields = status_fields(program, bounding=mask, permitted=mask, effective=mask)
        assert int(fields["CapBnd"], 16) == int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == mask

    isolated(action)


def test_ambient_capabilities_reach_another_user(program, isolated):
    def action():
        mask, ambient = 1 << 0 | 1 << 10, 1 << 10
        sets = {"bounding": mask, "permitted": mask, "effective": mask, "inheritable": ambient, "ambient": ambient}
        fields = status_fields(program, uid=1000, gid=1000, **sets)
        found = {name: int(fields[name], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")}
        assert found == {"CapBnd": mask, "CapPrm": ambient, "CapEff": ambient, "CapInh": ambient, "CapAmb": ambient}

    isolated(action)


def test_an_ambient_capability_that_is_not_inheritable_is_left_out(program, isolated):
    """As by runc, with a warning, and by crun."""

    def action():
        mask = 1 << 0 | 1 << 10
        sets = {"bounding": mask, "permitted": mask, "effective": mask, "inheritable": 1, "ambient": mask}
        fields = status_fields(program, uid=1000, gid=1000, **sets)
        assert (int(fields["CapAmb"], 16), int(fields["CapBnd"], 16)) == (1, mask)

    isolated(action)


def test_capabilities_that_the_kernel_lacks_are_left_out(program, isolated):
    def action():
        sets = dict.fromkeys(("bounding", "permitted", "effective", "inheritable", "ambient"), HELD | 1 << 63)
        fields = status_fields(program, **sets)
        assert int(fields["CapEff"], 16) == int(fields["CapAmb"], 16) == HELD

    isolated(action)


def test_a_capability_that_init_lacks_is_an_error(program, isolated):
    missing = ALL & ~HELD
    if not missing:
        pytest.skip("this process has all capabilities")
    everything = AppProcess(args=("true",), bounding=ALL, permitted=ALL, effective=ALL)
    isolated(lambda: refused(program, everything, 126, "capset: the application: Operation not permitted"))


def test_no_new_privileges(program, isolated):
    def action():
        assert status_fields(program)["NoNewPrivs"] == "0"

    isolated(action)

    def with_it():
        assert status_fields(program, no_new_privileges=True, uid=1000)["NoNewPrivs"] == "1"

    isolated(with_it)


def test_limits_umask_and_oom_score(program, isolated):
    script = "ulimit -S -n; ulimit -H -n; ulimit -S -c; umask; cat /proc/self/oom_score_adj"

    def action():
        settings = AppProcess(
            args=("/bin/sh", "-c", script),
            env=(PATH,),
            rlimits=((7, 100, 200), (4, 0, 2**64 - 1)),
            umask=0o027,
            oom_score_adj=500,
            uid=1000,
        )
        stage = Stage(program, settings)
        stage.start()
        stage.release()
        assert stage.out.decode().split() == ["100", "200", "0", "0027", "500"], stage.err

    isolated(action)


def test_a_limit_above_inits_is_an_error(program, isolated):
    def action():
        stage = Stage(program, AppProcess(args=("true",), rlimits=((7, 100, 2**63),)))
        stage.start()
        stage.release()
        assert (stage.end(), stage.err) == (126, "pouchrich-launch: setrlimit: resource 7: Operation not permitted\n")

    isolated(action)


def test_the_environment_is_exactly_the_one_given(program, isolated):
    words = ("dotted.name-x=1", 'quotes=%h "$HOME" \\ \'', "lines=one\ntwo\n", "=odd", "empty=", "café=ü")

    def action():
        stage = run(program, AppProcess(args=("/usr/bin/env", "-0"), env=words))
        assert stage.out == b"".join(word.encode() + b"\0" for word in words)

    isolated(action)


def test_arguments_hold_anything_but_nul(program, isolated):
    def action():
        stage = run(program, AppProcess(args=("/usr/bin/printf", "%s|", "", "a b", "%n", "\n", "x" * 100_000)))
        assert stage.out == b"|a b|%n|\n|" + b"x" * 100_000 + b"|"

    isolated(action)


def test_the_working_directory_is_entered(program, isolated):
    def action():
        stage = run(program, AppProcess(args=("/bin/pwd",), cwd="/usr/lib"))
        assert stage.out == b"/usr/lib\n"

    isolated(action)


def test_a_directory_closed_to_the_user_is_entered_as_by_an_oci_runtime(program, isolated):
    def action():
        stage = Stage(program, AppProcess(args=("/bin/pwd",), cwd="/run/closed", uid=1000))
        os.mkdir("/run/closed", 0o700)
        stage.start()
        stage.release()
        assert (stage.end(), stage.out, stage.err) == (0, b"/run/closed\n", "")

    isolated(action)


def test_a_program_is_looked_for_with_the_capabilities_that_the_exec_has(program, isolated):
    """CAP_DAC_OVERRIDE lets the user execute what is in a directory that is closed to it; access(2) says no."""

    def action():
        held = dict.fromkeys(("bounding", "permitted", "effective"), 1 << 1)
        stage = Stage(program, AppProcess(args=("tool",), env=("PATH=/run/closed:/bin",), uid=1000, **held))
        os.mkdir("/run/closed", 0o700)
        shutil.copy("/bin/echo", "/run/closed/tool")
        stage.start()
        stage.release()
        assert (stage.end(), stage.out, stage.err) == (0, b"\n", "")

    isolated(action)


def test_a_missing_working_directory_is_named(program, isolated):
    missing = AppProcess(args=("/bin/pwd",), cwd="/no/such")
    isolated(lambda: refused(program, missing, 126, "chdir: /no/such: No such file or directory"))


def test_signals_are_as_in_any_new_container(program, isolated):
    def spoil():
        for number in (*range(1, 9), *range(10, 19), *range(20, 32), *range(34, 65)):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def action():
        stage = run(program, AppProcess(args=("/bin/cat", "/proc/self/status")), prepare=spoil)
        fields = dict(line.split(":\t", 1) for line in stage.out.decode().splitlines())
        assert {fields[name] for name in ("SigBlk", "SigIgn", "SigCgt")} == {"0" * 16}

    isolated(action)


def test_no_descriptor_but_the_three(program, isolated):
    def leak():
        os.set_inheritable(os.open("/etc/passwd", os.O_RDONLY), True)

    def action():
        stage = run(program, AppProcess(args=("/bin/ls", "/proc/self/fd")), prepare=leak)
        assert stage.out.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls's own

    isolated(action)


def test_works_where_init_gave_no_standard_descriptors(program, isolated):
    def action():
        stage = run(program, AppProcess(args=("/bin/echo", "here")), prepare=lambda: os.closerange(0, 2))
        assert stage.out == b"here\n"

    isolated(action)


def test_the_program_is_looked_up_in_the_applications_path(program, isolated):
    path = "PATH=relative::.:/run/no:/run/dir:/run/closed:/run/bin"

    def action():
        stage = Stage(program, AppProcess(args=("tool", "x"), env=(path,), cwd="/run/here"))
        os.makedirs("/run/dir/tool")
        for place, mode in (("here", 0o755), ("here/relative", 0o755), ("closed", 0o644), ("bin", 0o755)):
            os.mkdir(f"/run/{place}")
            tool = pathlib.Path(f"/run/{place}/tool")
            tool.write_text('#!/bin/sh\necho "$0 $1"\n')
            tool.chmod(mode)
        stage.start()
        stage.release()
        assert stage.out == b"/run/bin/tool x\n", stage.err

    isolated(action)


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        (AppProcess(args=("nothing",), env=(PATH,)), 127, "exec: nothing: No such file or directory"),
        (AppProcess(args=("cat",)), 127, "exec: cat: No such file or directory"),
        (AppProcess(args=("/no/such",)), 127, "exec: /no/such: No such file or directory"),
        (AppProcess(args=("/etc/passwd",)), 126, "exec: /etc/passwd: Permission denied"),
        (AppProcess(args=("/etc",)), 126, "exec: /etc: Permission denied"),
    ],
)
def test_an_exec_that_fails_ends_as_in_a_shell(program, isolated, settings, status, said):
    isolated(lambda: refused(program, settings, status, said))


@pytest.mark.parametrize(
    "settings",
    [
        b"pouchrich-launch 2\0arg x\0",
        b"pouchrich-launch 1\0arg x",
        b"pouchrich-launch 1\0",
        b"pouchrich-launch 1\0uid -1\0arg x\0",
        b"pouchrich-launch 1\0uid 4294967295\0arg x\0",
        b"pouchrich-launch 1\0uid 1 2\0arg x\0",
        b"pouchrich-launch 1\0bounding 10000000000000000\0arg x\0",
        b"pouchrich-launch 1\0rlimit 7 1\0arg x\0",
        b"pouchrich-launch 1\0secret word\0arg x\0",
        b"",
    ],
)
def test_bad_settings_are_refused_before_anything_is_asked(program, isolated, settings):
    def action():
        stage = Stage(program, settings)
        stage.start()
        assert stage.end() == 125
        said = stage.early
        assert said.startswith("pouchrich-launch: settings: ")
        assert "word" not in said

    isolated(action)


def test_a_refused_launcher_says_so(program, isolated):
    def action():
        stage = Stage(program, AppProcess(args=("true",)))
        stage.start()
        stage.listener.accept()[0].close()
        assert stage.end() == 125
        assert stage.early == "pouchrich-launch: recvmsg: /run/pouchrich/app.sock: Connection reset by peer\n"

    isolated(action)


def test_without_a_shim_it_ends(program, isolated):
    def action():
        stage = Stage(program, AppProcess(args=("true",)))
        stage.listener.close()
        stage.start()
        assert stage.end() == 125
        assert stage.early == "pouchrich-launch: connect: /run/pouchrich/app.sock: Connection refused\n"

    isolated(action)


def test_the_application_cannot_read_the_settings(program, isolated):
    def action():
        stage = run(program, AppProcess(args=("/bin/cat", "/run/pouchrich/app"), env=("SECRET=1",), uid=1000))
        assert stage.status == 1
        assert b"SECRET" not in stage.out

    isolated(action)


def test_a_terminal_becomes_the_controlling_one(program, isolated):
    script = "import os; os.open('/dev/tty', os.O_RDWR); print(os.getsid(0) == os.getpid() == os.tcgetpgrp(0))"

    def action():
        master, slave = os.openpty()
        stage = Stage(program, AppProcess(args=(sys.executable, "-c", script), terminal=True))
        stage.start(prepare=os.setsid)
        stage.release(stdin=slave, out=slave)
        assert stage.end() == 0
        assert os.read(master, 100) == b"True\r\n"

    isolated(action)


def test_inits_console_is_not_the_applications(program, isolated):
    script = """
import os
try: os.open('/dev/tty', os.O_RDWR)
except OSError as err: print(err.errno, os.getsid(0) == os.getpid())
"""

    def action():
        _, console = os.openpty()

        def as_busybox_does():
            os.setsid()
            fcntl.ioctl(console, termios.TIOCSCTTY, 0)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

        stage = run(program, AppProcess(args=(sys.executable, "-c", script)), prepare=as_busybox_does)
        assert (stage.status, stage.out) == (0, b"6 True\n")  # ENXIO

    isolated(action)


@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -KILL $$", 137)])
def test_a_parent_that_stays_reports_the_end(program, isolated, script, status):
    def action():
        stage = Stage(program, encode(AppProcess(args=("/bin/sh", "-c", f"echo $$ $PPID; {script}")), stay=True))
        stage.start("app")
        stage.release()
        pid, parent = map(int, stage.out.split())
        assert (pid, parent) == (stage.peer, stage.pid)
        said = stage.connection.recv(16)
        assert pidfd.status_of(struct.unpack("i", said)[0]) == status
        assert stage.end() == status

    isolated(action)


def test_a_parent_that_stays_is_blind_to_termination(program, isolated):
    def action():
        stage = Stage(program, encode(AppProcess(args=("/bin/sh", "-c", "kill -TERM $PPID; exit 3")), stay=True))
        stage.start("app")
        stage.release()
        assert stage.end() == 3

    isolated(action)


def test_a_parent_that_stays_passes_on_what_pid_1_sends(program, isolated):
    """systemd knows no other process of the unit's (KillMode=mixed)."""

    def as_pid_1():
        signal.alarm(30)
        script = "trap 'echo got 34' 34; trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done"
        stage = Stage(program, encode(AppProcess(args=("/bin/bash", "-c", script)), stay=True, passes_on=True))
        reader, writer = os.pipe()
        stage.start("app")
        connection, _ = stage.listener.accept()
        null = os.open("/dev/null", os.O_RDWR)
        socket.send_fds(connection, [b"x"], [null, writer, null])
        os.close(writer)
        with open(reader, "rb", buffering=0) as said:
            assert said.read(6) == b"ready\n"
            os.kill(stage.pid, 34)
            assert said.read(7) == b"got 34\n"
        os.kill(stage.pid, signal.SIGTERM)
        assert pidfd.status_of(struct.unpack("i", connection.recv(16))[0]) == 4
        assert pidfd.status_of(os.waitpid(stage.pid, 0)[1]) == 4

    def action():
        syscalls.unshare(CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            try:
                as_pid_1()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    isolated(action)


def test_halt_connects_and_waits_to_be_let_go(program, isolated):
    def action():
        stage = Stage(program, b"")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("/run/pouchrich/halt.sock")
            listener.listen()
            stage.start("halt")
            connection, _ = listener.accept()
            assert os.waitpid(stage.pid, os.WNOHANG) == (0, 0)
            connection.close()
        assert stage.end() == 0

    isolated(action)


@pytest.mark.parametrize("argv", [("other",), ("halt", "more"), ("app", "more"), ("stay", "app")])
def test_other_arguments_are_refused(program, argv):
    ended = subprocess.run([program, *argv], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.split(": ")[1]) == (125, "usage")


@pytest.mark.parametrize("no_new_privs", [False, True])
def test_a_stop_script_has_all_but_what_would_change_the_node(program, isolated, no_new_privs):
    gone = 1 << CAPABILITIES.index("CAP_SYS_ADMIN") | 1 << CAPABILITIES.index("CAP_SYS_TIME")

    def action():
        if no_new_privs:
            assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        argv = [program, "stop", "/bin/grep", "^Cap", "/proc/self/status"]
        found = dict(line.split(":\t") for line in subprocess.check_output(argv, text=True).splitlines())
        assert {name: int(found[name], 16) for name in ("CapPrm", "CapEff", "CapBnd")} == dict.fromkeys(
            ("CapPrm", "CapEff", "CapBnd"), HELD & ~gone
        )
        missing = subprocess.run([program, "stop", "/none"], capture_output=True, text=True, check=False)
        assert missing.stderr == "pouchrich-launch: execv: /none: No such file or directory\n"

    isolated(action)
