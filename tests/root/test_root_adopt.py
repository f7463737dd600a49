"""The compiled launcher, the socket and the exit together: a container is a pid namespace here, its init a shell."""

import asyncio
import logging
import os
import pathlib
import subprocess
import sys
from contextlib import contextmanager

import pytest

from runtime.errors import RuntimeFailed
from runtime.init.boot import AppProcess
from runtime.init.launcher_settings import encode
from runtime.linux import proc_events, syscalls
from shim.task.application.adopt import AppSocket
from shim.task.application.app_exit import ApplicationExit, ExitStatusSource
from shim.task.stdio.app_terminal import open_terminal
from shim.task.stdio.terminal import AppConsole

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SOURCE = pathlib.Path(__file__).parents[2]
# PID 1 of a new pid namespace: runs each line it is given, and reaps.
INIT = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c"]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    built = tmp_path_factory.mktemp("launcher") / "launch"
    subprocess.run([SOURCE / "hack/build-launcher.sh", built], check=True)
    return str(built)


@contextmanager
def container(script):
    """A pid namespace whose init runs `script` once its standard input ends; yields the unshare and init's pid."""
    with subprocess.Popen([*INIT, f"echo up; read go; {script}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        try:
            assert p.stdout.readline() == b"up\n"
            children = pathlib.Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text()
            yield p, int(children)
        finally:
            p.kill()


def prepare(settings, *, stay=False):
    syscalls.mount("tmpfs", "/run", "tmpfs")
    os.mkdir("/run/pouchrich", 0o711)
    pathlib.Path("/run/pouchrich/app").write_bytes(encode(settings, stay=stay))


async def life(program, init, source, *, go):
    """From the socket to the exit status."""
    loop = asyncio.get_running_loop()
    known = {"init_pid": init, "cgroup": None, "launcher": os.stat(program), "root_uid": 0, "loop": loop}
    listening = AppSocket("/run/pouchrich/app.sock", **known)
    go()
    async with asyncio.timeout(20):
        adopted = await listening.accept()
        watching = ApplicationExit("c", adopted, source, loop)
        try:
            adopted.release([0, 2, 2])
            return await watching.wait()
        finally:
            watching.close()
            adopted.close()


@pytest.mark.parametrize("source", ExitStatusSource)
@pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -KILL $$", 137)])
def test_from_the_connection_to_the_status(program, isolated, source, script, status):
    if source is ExitStatusSource.PROC_CONNECTOR and not proc_events.available():
        pytest.skip("the process connector does not speak to us here")

    def action():
        prepare(AppProcess(args=("/bin/sh", "-c", script)), stay=source is ExitStatusSource.LAUNCHER_PARENT)
        with container(f"{program} app & wait; exec sleep 60") as (unshare, init):
            assert asyncio.run(life(program, init, source, go=unshare.stdin.close)) == status

    isolated(action)


def test_a_status_is_known_while_init_does_not_reap(program, isolated):
    def action():
        prepare(AppProcess(args=("/bin/sh", "-c", "exit 7")))
        with container(f"{program} app & exec sleep 60") as (unshare, init):  # sleep never waits
            assert asyncio.run(life(program, init, ExitStatusSource.PIDFD_INFO, go=unshare.stdin.close)) == 7

    isolated(action)


def test_a_launcher_outside_of_the_containers_pids_is_refused(program, isolated):
    async def play(init, unshare):
        heard = []
        logging.getLogger("shim.task.application.adopt").addFilter(lambda record: heard.append(record.getMessage()))

        def go():
            stranger.append(subprocess.Popen([program, "app"], stderr=subprocess.PIPE, text=True))
            assert stranger[0].stderr is not None
            loop = asyncio.get_running_loop()
            loop.add_reader(stranger[0].stderr, lambda: (loop.remove_reader(stranger[0].stderr), unshare.stdin.close()))

        stranger = []
        status = await life(program, init, ExitStatusSource.PIDFD_INFO, go=go)
        said = stranger[0].communicate()[1]
        return status, stranger[0].returncode, said, heard

    def action():
        prepare(AppProcess(args=("/bin/sh", "-c", "exit 7")))
        with container(f"{program} app & wait; exec sleep 60") as (unshare, init):
            status, refused, said, heard = asyncio.run(play(init, unshare))
        assert (status, refused) == (7, 125)
        assert "Connection reset" in said
        assert len(heard) == 1
        assert "not the container's pid:[" in heard[0]

    isolated(action)


def test_root_in_the_container_that_runs_something_else_is_refused(program, isolated):
    impostor = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/pouchrich/app.sock'); s.recv(1)"

    def action():
        prepare(AppProcess(args=("/bin/sh", "-c", "exit 7")))
        script = f'{sys.executable} -c "{impostor}" && {program} app & wait; exec sleep 60'
        with container(script) as (unshare, init):
            assert asyncio.run(life(program, init, ExitStatusSource.PIDFD_INFO, go=unshare.stdin.close)) == 7

    isolated(action)


def test_a_terminal_is_of_the_containers_devpts_and_its_users(isolated):
    def action():
        syscalls.mount("devpts", "/dev/pts", "devpts", data="newinstance,ptmxmode=0666,mode=0620,gid=5")
        terminal = open_terminal(os.getpid(), uid=1000)
        assert os.ttyname(terminal.slave) == "/dev/pts/0"
        found = os.fstat(terminal.slave)
        assert (found.st_uid, found.st_gid) == (1000, 5)
        assert found.st_dev == os.stat("/dev/pts").st_dev
        os.write(terminal.slave, b"hello\n")
        assert os.read(terminal.master, 100) == b"hello\r\n"
        assert not os.get_inheritable(terminal.master)
        with pytest.raises(BlockingIOError):
            os.read(terminal.master, 1)
        sized = AppConsole({"width": 111, "height": 22})
        sized.make(os.getpid(), uid=1000)
        assert os.get_terminal_size(sized.child_fds()[0]) == (111, 22)

    isolated(action)


@pytest.mark.parametrize("trap", ["fifo", "link", "file", "none"])
def test_what_is_no_multiplexer_is_not_opened(isolated, trap):
    def action():
        syscalls.mount("tmpfs", "/dev/pts", "tmpfs")
        make = {
            "fifo": lambda path: os.mkfifo(path),
            "link": lambda path: os.symlink("/dev/ptmx", path),
            "file": lambda path: pathlib.Path(path).touch(),
            "none": lambda path: None,
        }
        make[trap]("/dev/pts/ptmx")
        with pytest.raises(RuntimeFailed, match="terminal of the application"):
            open_terminal(os.getpid())

    isolated(action)
