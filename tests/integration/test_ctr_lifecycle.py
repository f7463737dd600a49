"""A container's life through ctr: start, signals, exit status, pause, deletion, failures."""

import functools
import json
import signal
import time
from pathlib import Path

import pytest

from tests.integration import binaries, cgroups, processes
from tests.integration.ctr import Ctr
from tests.integration.waiting import until

NO_SUCH_FILE = "not found", "no such file"


def says_no_such_file(text: str) -> bool:
    """runc and crun put it differently."""
    return any(words in text.lower() for words in NO_SUCH_FILE)


@pytest.mark.smoke
@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_is_the_commands(ctr: Ctr, code: int) -> None:
    assert ctr.run("sh", "-c", f"exit {code}").code == code


@pytest.mark.smoke
def test_the_shim_is_the_environments(ctr: Ctr) -> None:
    container = ctr.start("sleep", "300")
    (shim,) = ctr.node.shims(containing=container)
    expected = "containerd-shim-runc-v2" if ctr.environment.runtime == "runc.v2" else binaries.SHIM
    assert expected in processes.command(shim)


@pytest.mark.smoke
def test_both_output_streams_arrive_apart(ctr: Ctr) -> None:
    result = ctr.run("sh", "-c", "echo out; echo err >&2")
    assert (result.code, result.stdout, result.stderr) == (0, b"out\n", "err\n")


def test_twenty_short_containers_end_without_a_hang(ctr: Ctr) -> None:
    """ctr waits before it starts; the exit may come before the answer to Start."""
    assert [ctr.run("sh", "-c", f"exit {code}", timeout_s=10).code for code in range(20)] == list(range(20))


def test_sigkill_gives_137(ctr: Ctr) -> None:
    container = ctr.start("sleep", "300")
    assert ctr.kill(container, "SIGKILL").code == 0
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 137


def test_sigterm_reaches_the_command(ctr: Ctr) -> None:
    container = ctr.start("sh", "-c", "trap 'exit 143' TERM; echo; while :; do sleep 0.1; done")
    until(lambda: _catches(ctr.pid(container), signal.SIGTERM), "the shell to set its trap")
    assert ctr.kill(container, "SIGTERM").code == 0
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 143


def _catches(pid: int, number: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        caught = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.smoke
def test_a_running_task_is_listed_and_its_processes_too(ctr: Ctr) -> None:
    container = ctr.start("sh", "-c", "sleep 300 & sleep 300; true")
    assert ctr.status(container) == "RUNNING"
    init = ctr.pid(container)
    until(lambda: len(processes.descendants(init)) == 2 + ctr.environment.adds, "both sleeps")
    assert sorted(ctr.pids(container)) == sorted([init, *processes.descendants(init)])


def test_a_running_task_is_not_deleted(ctr: Ctr) -> None:
    container = ctr.start("sleep", "300")
    result = ctr.call("tasks", "rm", container)
    assert result.code != 0
    assert "must be stopped before deletion" in result.stderr
    assert ctr.status(container) == "RUNNING"


def test_killing_a_finished_task_says_not_found(ctr: Ctr) -> None:
    container = ctr.start("true")
    ctr.wait_stopped(container)
    result = ctr.kill(container, "SIGTERM")
    assert result.code != 0
    assert "not found" in result.stderr


def test_a_second_task_for_a_container_is_refused(ctr: Ctr) -> None:
    container = ctr.start("sleep", "300")
    result = ctr.call("tasks", "start", "--detach", container)
    assert result.code != 0
    assert "exists" in result.stderr
    assert ctr.status(container) == "RUNNING"


def test_a_container_starts_again_after_its_task_was_deleted(ctr: Ctr) -> None:
    container = ctr.start("sh", "-c", "exit 9")
    ctr.wait_stopped(container)
    assert ctr.delete_task(container) == 9
    assert ctr.call("tasks", "start", container).code == 9


def test_a_missing_binary_fails_the_start_and_leaves_no_task(ctr: Ctr) -> None:
    result = ctr.run("/no/such/binary", timeout_s=20)
    assert result.code != 0
    assert says_no_such_file(result.stderr), result.stderr
    assert ctr.check("tasks", "ls").splitlines()[1:] == []


def test_pause_freezes_and_resume_thaws(ctr: Ctr) -> None:
    container = ctr.start("sh", "-c", "while :; do :; done")
    pid = ctr.command_pid(container)
    ctr.check("tasks", "pause", container)
    assert ctr.status(container) == "PAUSED"
    before = _cpu_ticks(pid)
    time.sleep(0.3)
    assert _cpu_ticks(pid) == before
    ctr.check("tasks", "resume", container)
    assert ctr.status(container) == "RUNNING"
    until(lambda: _cpu_ticks(pid) > before, "the loop to go on")


def _cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_metrics_of_a_running_task_are_not_zero(ctr: Ctr) -> None:
    container = ctr.start("sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 300")
    until(lambda: _cpu_ticks(ctr.command_pid(container)) > 0, "some use of the CPU")
    table = {
        words[0]: words[1]
        for line in ctr.check("tasks", "metrics", container).splitlines()
        if len(words := line.split()) > 1
    }
    assert int(table["memory.usage_in_bytes"]) > 0
    assert int(table["cpuacct.usage"]) > 0


def test_checkpoint_without_criu_gives_an_error_that_says_so(ctr: Ctr) -> None:
    container = ctr.start("sleep", "300")
    result = ctr.call("tasks", "checkpoint", "--image-path", str(ctr.node.base / "checkpoint"), container)
    assert result.code != 0
    assert "criu" in result.stderr.lower(), result.stderr
    assert ctr.status(container) == "RUNNING"


def test_metrics_are_what_the_cgroup_s_files_say(ctr: Ctr) -> None:
    """Of a container that has stopped working, so that they hold still once the kernel has counted all."""
    container = ctr.start("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 300")
    until(lambda: processes.command(ctr.command_pid(container)).startswith("sleep"), "the loop's end")
    pid = ctr.command_pid(container)
    v1 = (cgroups.of_process(pid, "memory") / "memory.stat").exists()
    files, fields = (V1_FILES, V1_FIELDS) if v1 else (V2_FILES, V2_FIELDS)

    def differ() -> list[tuple[str, int, int]]:
        metrics = json.loads(ctr.check("tasks", "metrics", "--format", "json", container))
        said = [_number(cgroups.of_process(pid, controller) / name, key) for controller, name, key in files]
        told = [functools.reduce(lambda value, word: value.get(word, 0), path.split("."), metrics) for path in fields]
        assert said[0] > 0, "a container that has used no time"
        return [(path, *both) for path, *both in zip(fields, told, said, strict=True) if both[0] != both[1]]

    until(lambda: not differ(), "metrics that are the files'")


# Controller, file, key in it ("" for a number alone); and where that is in the metrics.
V1_FILES = (
    ("cpuacct", "cpuacct.usage", ""),
    ("cpu", "cpu.stat", "nr_periods"),
    ("memory", "memory.usage_in_bytes", ""),
    ("memory", "memory.limit_in_bytes", ""),
    ("memory", "memory.max_usage_in_bytes", ""),
    ("memory", "memory.stat", "total_rss"),
    ("memory", "memory.stat", "total_pgfault"),
    ("pids", "pids.current", ""),
)
V1_FIELDS = (
    *("cpu.usage.total", "cpu.throttling.periods", "memory.usage.usage", "memory.usage.limit", "memory.usage.max"),
    *("memory.total_rss", "memory.total_pg_fault", "pids.current"),
)
V2_FILES = (
    ("cpu", "cpu.stat", "usage_usec"),
    ("memory", "memory.current", ""),
    ("memory", "memory.stat", "anon"),
    ("memory", "memory.stat", "pgfault"),
    ("pids", "pids.current", ""),
)
V2_FIELDS = ("cpu.usage_usec", "memory.usage", "memory.anon", "memory.pgfault", "pids.current")


def _number(path: Path, key: str) -> int:
    text = path.read_text()
    return int(dict(line.split() for line in text.splitlines())[key] if key else text)
