"""What a pod server costs while nothing is asked of it: no wake-up, and no memory for what was asked before."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.ctr import Ctr
from tests.integration.tasks import Tasks
from tests.integration.waiting import until

OURS = ("pouchrich", "pouchrich-rich")
WARM_UP = 300
"""More than the some 250 execs in which a pod server comes to write to all the pages that it ever does."""
IDLE_S = 4.0


def private_kib(pid: int) -> int:
    """Memory that goes when the process does (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def switches(pid: int) -> list[str]:
    """How often each thread went to sleep or was made to, by thread."""
    found = []
    for thread in sorted(Path(f"/proc/{pid}/task").iterdir()):
        lines = (thread / "status").read_text().splitlines()
        found.append(f"{thread.name} " + " ".join(line for line in lines if "ctxt_switches" in line))
    return found


def sleeps(pid: int, seconds: float) -> bool:
    """Whether nothing wakes a process for so long."""
    before = switches(pid)
    time.sleep(seconds)
    return switches(pid) == before


@contextlib.contextmanager
def output(tasks: Tasks, name: str) -> Iterator[tuple[str, list[int]]]:
    """FIFOs for the output of execs, and their descriptors."""
    path = tasks.stdio / f"{name}-out"
    paths = [path, Path(f"{path}-err")]
    for fifo in paths:
        os.mkfifo(fifo)
    readers = [os.open(fifo, os.O_RDWR | os.O_NONBLOCK) for fifo in paths]
    yield str(path), readers
    for fifo, reader in zip(paths, readers, strict=True):
        fifo.unlink()
        os.close(reader)


def run_execs(tasks: Tasks, container: str, names: Iterator[str], count: int) -> None:
    """Run `count` processes, each to its end, every other one with output."""
    with output(tasks, next(names)) as (path, readers):
        for number in range(count):
            name = next(names)
            tasks.add_exec(container, name, "/bin/echo", name, stdout=path if number % 2 else "")
            wait = tasks.wait(container, name)
            tasks.start(container, name)
            assert wait.result(timeout=60).exit_status == 0
            assert tasks.delete_exec(container, name) == 0
            if number % 2:
                assert os.read(readers[0], 4096) == f"{name}\n".encode()


@pytest.mark.timeout(900)
@pytest.mark.only(runtime=OURS)
@pytest.mark.usually("2.1-crun-pouchrich")
@pytest.mark.parametrize(("execs", "most_kib"), [(100, 160), pytest.param(1000, 256, marks=pytest.mark.full)])
def test_memory_is_flat_over_execs(tasks: Tasks, execs: int, most_kib: int) -> None:
    """A page that is written for the first time counts as growth, so the first execs do not count."""
    names = (f"exec{number}" for number in itertools.count())
    container = tasks.create("/bin/sleep", "100000")
    tasks.start(container)
    (server,) = tasks.ctr.node.shims(containing=container)
    run_execs(tasks, container, names, WARM_UP)
    found = [private_kib(server)]
    for _ in range(5):
        run_execs(tasks, container, names, execs // 5)
        found.append(private_kib(server))
    assert found[-1] - found[0] <= most_kib, found


@pytest.mark.only(runtime=OURS)
@pytest.mark.usually("1.6-runc-pouchrich", "2.1-crun-pouchrich")
def test_a_pod_server_is_not_woken_while_nothing_is_asked_of_it(ctr: Ctr) -> None:
    container = ctr.start("sh", "-c", "echo up; exec sleep 1000")
    assert ctr.look(container, "echo", "hello") == b"hello\n"
    (server,) = ctr.node.shims(containing=container)
    until(lambda: sleeps(server, IDLE_S), f"{IDLE_S} s without a wake-up", timeout_s=3 * IDLE_S)
