"""The parts of a StartContainer and an ExecSync, from what the kernel says of the programs that ran."""

import pytest
from benchmark import started, tracing

HEAD = """\
# tracer: nop
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
"""
OURS = """\
 a b-containerd-50 [001] ..... 10.001: sched_process_fork: comm=a b pid=50 child_comm=a b child_pid=60
 shim-60 [000] ..... 10.002: sched_process_exec: filename=/opt/bin/shim pid=60 old_pid=60
 shim-60 [000] ..... 10.004: sched_process_exit: comm=shim pid=60 prio=120 group_dead=true
"""
BOTH = """\
 server-70 [000] ..... 10.010: sched_process_fork: comm=server pid=70 child_comm=server child_pid=71
 crun-71 [000] d..1. 10.011: sched_process_exec: filename=/proc/self/fd/65 pid=71 old_pid=71
 crun-71 [000] ..... 10.012: sched_process_fork: comm=crun pid=71 child_comm=crun child_pid=72
 sleep-72 [000] ..... 10.013: sched_process_exec: filename=/bin/sleep pid=72 old_pid=72
 crun-71 [000] ..... 10.020: sched_process_exit: comm=crun pid=71 prio=120 group_dead=true
 server-70 [001] ..... 10.023: sched_process_fork: comm=server pid=70 child_comm=server child_pid=73
 crun-73 [000] ..... 10.024: sched_process_exec: filename=/usr/bin/crun pid=73 old_pid=73
 crun-73 [000] ..... 10.025: sched_process_exec: filename=/proc/self/fd/3 pid=73 old_pid=73
 crun-73 [000] ..... 10.027: sched_process_exit: comm=crun pid=73 prio=120 group_dead=true
"""
LATER = " crun-71 [000] ..... 11.000: sched_process_exec: filename=/usr/bin/crun pid=99 old_pid=99\n"


def milliseconds(text):
    return {
        name: round(seconds * 1000)
        for name, seconds in started.parts(tracing.parse(text), 10.0, 10.03, start="shim").items()
    }


def test_the_parts_are_the_whole():
    assert milliseconds(HEAD + OURS + BOTH + LATER) == {
        "containerd, and the shim's start command": 4,
        "to the OCI runtime's create": 6,
        "the OCI runtime's create": 10,
        "to its start": 3,
        "its start": 4,
        "to containerd's answer": 3,
    }


def test_a_shim_that_is_known_has_no_start_command():
    found = milliseconds(HEAD + BOTH)
    assert found["to the OCI runtime's create"] == 10
    assert sum(found.values()) == 30


@pytest.mark.parametrize("text", [HEAD, HEAD + OURS, OURS + BOTH.partition(" server-70 [001]")[0], OURS + OURS + "x"])
def test_what_is_not_told_whole_is_not_told(text):
    assert milliseconds(text) == {}


EXEC = """\
 server-70 [000] ..... 20.001: sched_process_fork: comm=server pid=70 child_comm=server child_pid=81
 crun-81 [000] d..1. 20.002: sched_process_exec: filename=/proc/self/fd/65 pid=81 old_pid=81
 crun-81 [000] ..... 20.003: sched_process_fork: comm=crun pid=81 child_comm=crun child_pid=82
 true-82 [000] ..... 20.005: sched_process_exec: filename=/bin/true pid=82 old_pid=82
 crun-81 [000] ..... 20.006: sched_process_exit: comm=crun pid=81 prio=120 group_dead=true
 true-82 [001] ..... 20.007: sched_process_exit: comm=true pid=82 prio=120 group_dead=true
"""


def test_an_exec_ends_with_the_command_or_the_runtime():
    found = started.exec_parts(tracing.parse(EXEC), 20.0, 20.01, command="true")
    assert {name: round(seconds * 1000) for name, seconds in found.items()} == {
        "to the OCI runtime's exec": 1,
        "the OCI runtime's exec, and the command": 6,
        "to the answer of an exec": 3,
    }
    assert started.exec_parts(tracing.parse(EXEC + BOTH), 10.0, 20.01, command="true") == {}


def test_a_buffer_that_was_too_small_is_an_error():
    full = "# entries-in-buffer/entries-written: 5/9   #P:2\n"
    with pytest.raises(tracing.Lost):
        tracing.parse(full + EXEC)
    assert len(tracing.parse(full.replace("9", "5") + EXEC)) == 6
