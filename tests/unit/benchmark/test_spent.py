"""Whose processor time is whose, from what the kernel says of the programs that ran."""

from benchmark import spent, tracing

EVENTS = """\
# entries-in-buffer/entries-written: 12/12   #P:2
 containerd-50 [001] d.... 10.001: sched_stat_runtime: comm=containerd pid=50 runtime=1000000 [ns]
 containerd-50 [001] ..... 10.001: sched_process_fork: comm=containerd pid=50 child_comm=containerd child_pid=60
 containerd-60 [001] d.... 10.002: sched_stat_runtime: comm=containerd pid=60 runtime=1000000 [ns]
 shim-60 [000] ..... 10.002: sched_process_exec: filename=/opt/bin/shim pid=60 old_pid=60
 shim-60 [001] d.... 10.003: sched_stat_runtime: comm=shim pid=60 runtime=2000000 [ns]
 spawner-51 [001] ..... 10.004: sched_process_fork: comm=spawner pid=51 child_comm=spawner child_pid=61
 spawner-61 [001] d.... 10.005: sched_stat_runtime: comm=spawner pid=61 runtime=4000000 [ns]
 3-62 [000] ..... 10.006: sched_process_exec: filename=/proc/self/fd/3 pid=62 old_pid=62
 3-62 [001] d.... 10.007: sched_stat_runtime: comm=3 pid=62 runtime=8000000 [ns]
 bridge-63 [000] ..... 10.008: sched_process_exec: filename=/usr/lib/cni/bridge pid=63 old_pid=63
 bridge-63 [001] d.... 10.009: sched_stat_runtime: comm=bridge pid=63 runtime=16000000 [ns]
 who-99 [001] d.... 10.010: sched_stat_runtime: comm=who pid=99 runtime=32000000 [ns]
"""


def test_a_process_is_its_programs_and_until_it_has_one_its_parents():
    known = {50: "containerd", 51: spent.SHIM}
    account = spent.Account(known, shims={"shim"}, plugins={"bridge"}, runtimes={"crun"})
    found = account.add(tracing.parse(EVENTS))
    assert {whose: round(seconds * 1000) for whose, seconds in found.items()} == {
        "containerd": 2,
        spent.SHIM: 6,
        spent.RUNTIME: 8,
        spent.NETWORK: 16,
        spent.OTHER: 32,
    }
    assert account.add([]) == {}
