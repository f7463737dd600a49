"""Children and their ends, each told once, with real processes."""

import asyncio
import fcntl
import gc
import os
import signal

import pytest

from shim.task.reaper import Exit, Reaper
from tests.fakes.loop import in_loop, open_fds, until

SH = "/bin/sh"


def fork(status: int) -> int:
    """A child that ends at once, whose pid the reaper is not told of."""
    pid = os.fork()
    if pid == 0:
        os._exit(status)
    return pid


def installed() -> Reaper:
    reaper = Reaper(asyncio.get_running_loop())
    reaper.install()
    return reaper


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("kill -11 $$", 139)],
)
@in_loop
async def test_a_status_is_the_code_or_128_and_the_signal(script: str, status: int):
    exit = await installed().spawn([SH, "-c", script], {}, {}).ended
    assert exit.status == status


@in_loop
async def test_an_end_before_the_watch_is_told_while_it_is_expected():
    reaper = installed()
    told: list[Exit] = []
    with reaper.expecting():
        pid = fork(5)
        await until(lambda: pid in reaper._unclaimed)
        reaper.watch(pid, told.append)
        assert told == []  # never from within
    await until(lambda: told)
    assert [(exit.pid, exit.status) for exit in told] == [(pid, 5)]


@in_loop
async def test_an_end_after_the_watch_is_told():
    reaper = installed()
    told: list[Exit] = []
    with reaper.expecting():
        child = reaper.spawn([SH, "-c", "read x"], {}, {})  # /dev/null: at once
        reaper.watch(child.pid, told.append)
    await until(lambda: told)
    assert len(told) == 1


@in_loop
async def test_what_nobody_expects_is_collected_and_forgotten():
    reaper = installed()
    pid = fork(0)
    await until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert reaper._unclaimed == {}


@in_loop
async def test_what_was_kept_is_forgotten_with_the_last_who_expects():
    reaper = installed()
    with reaper.expecting():
        with reaper.expecting():
            pid = fork(0)
            await until(lambda: pid in reaper._unclaimed)
        assert pid in reaper._unclaimed
    assert reaper._unclaimed == {}


@in_loop
async def test_an_earlier_processs_end_is_not_given_to_a_later_one_of_the_same_pid():
    reaper = installed()
    told: list[Exit] = []
    with reaper.expecting():
        child = reaper.spawn([SH, "-c", "exec sleep 1000"], {}, {})
        reaper._unclaimed[child.pid] = Exit(child.pid, 0, 1)  # of long ago; pids come round
        reaper.watch(child.pid, told.append)
        await asyncio.sleep(0.02)
        assert told == []
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: told)
    assert told[0].status == 137


@in_loop
async def test_a_child_is_killed_and_what_has_its_number_later_is_not(monkeypatch):
    reaper = installed()
    told: list[Exit] = []
    with reaper.expecting():
        child = reaper.spawn([SH, "-c", "exec sleep 1000"], {}, {})
        reaper.watch(child.pid, told.append)
    reaper.kill(child.pid)
    await until(lambda: told)
    assert told[0].status == 137
    monkeypatch.setattr(os, "kill", lambda *about: pytest.fail(f"killed {about}"))
    reaper.kill(child.pid)
    reaper.kill(1)


@in_loop
async def test_descriptors_arrive_where_they_should_even_where_theirs_are_taken():
    gc.collect()  # what other tests have dropped closes now
    before = open_fds()
    pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    writers = [write for _, write in pipes]
    # Ours at 3, 4 and 5, each wanted by the child at another's number.
    saved = {fd: os.dup(fd) for fd in (3, 4, 5) if any(one.startswith(f"{fd} ") for one in before)}
    moved = [os.dup(write) for write in writers]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in moved]
    reaper = installed()
    child = reaper.spawn(
        [SH, "-c", "echo three >&3; echo four >&4; echo five >&5; ls /proc/self/fd | wc -l >&5"],
        {3: high[2], 4: high[0], 5: high[1]},
        {"PATH": os.environ["PATH"]},
    )
    assert (await child.ended).status == 0
    assert os.read(pipes[2][0], 100) == b"three\n"
    assert os.read(pipes[0][0], 100) == b"four\n"
    assert os.read(pipes[1][0], 100).startswith(b"five\n")
    for fd in (*saved.values(), *moved, *high, *(fd for pair in pipes for fd in pair)):
        os.close(fd)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
    assert {fd for fd in open_fds() if "socket" not in fd} == {fd for fd in before if "socket" not in fd}


@in_loop
async def test_low_descriptors_may_be_swapped():
    reaper = installed()
    output, write = os.pipe2(os.O_CLOEXEC)
    one, other = os.pipe2(os.O_CLOEXEC)
    flags = [f"/proc/self/fdinfo/{fd}" for fd in (one, other)]
    child = reaper.spawn(["/bin/grep", "-h", "flags", *flags], {1: write, one: other, other: one}, {})
    assert (await child.ended).status == 0
    assert [int(line.split()[1], 8) & os.O_ACCMODE for line in os.read(output, 100).splitlines()] == [
        os.O_WRONLY,
        os.O_RDONLY,
    ]
    for fd in (output, write, one, other):
        os.close(fd)


@in_loop
async def test_a_program_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="/nowhere/runc"):
        installed().spawn(["/nowhere/runc"], {}, {})


@in_loop
async def test_a_program_has_the_kernels_signals_and_only_its_environment():
    reaper = installed()
    read, write = os.pipe2(os.O_CLOEXEC)
    child = reaper.spawn(["/usr/bin/env"], {1: write}, {"ONLY": "this"})
    await child.ended
    assert os.read(read, 1000) == b"ONLY=this\n"
    child = reaper.spawn([SH, "-c", "kill -PIPE $$"], {}, {})
    assert (await child.ended).status == 128 + signal.SIGPIPE
    os.close(read)
    os.close(write)


@in_loop
async def test_two_hundred_at_once_are_all_told_of():
    reaper = installed()
    told: list[Exit] = []
    with reaper.expecting():
        pids = [fork(number % 256) for number in range(200)]
        for pid in pids:
            reaper.watch(pid, told.append)
        await until(lambda: len(told) == 200)
    assert {exit.pid: exit.status for exit in told} == {pid: n % 256 for n, pid in enumerate(pids)}
