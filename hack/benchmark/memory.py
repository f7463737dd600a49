"""The cost of a pod that is idle, or only asked for Stats: the memory of a shim's processes, how it grows, and why."""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmark.contest import Shim, Task, cpu_seconds
from benchmark.place import Place, descendants, reap
from benchmark.rows import Samples, one_exec, running, samples

SPAWNER_TITLE = b"pouchrich-spawner"


async def memory(place: Place, shims: Sequence[Shim], counts: Sequence[int], settle_s: float) -> Samples:
    """For N idle pods: proportional and private memory, CPU time and wake-ups of all processes of the shim.

    Rows end in `@N`. Values are per pod, except `PSS`, which is the total.
    """
    found = samples()
    for shim in shims:
        await _warm_up(place, shim, settle_s)
        tasks: list[Task] = []
        pids: list[int] = []
        for count in counts:
            missing = count - len(tasks)
            for begin in range(0, missing, 10):
                more = await asyncio.gather(*(running(place, shim) for _ in range(min(10, missing - begin))))
                pids += [await task.shim_pid() for task in more]  # once, before they settle: answering is work
                tasks += more
            await asyncio.sleep(settle_s)
            for row, value in (await _idle(pids, ours=shim.is_ours)).items():
                found[shim.name][f"{row}@{count}"].append(value)
        for begin in range(0, len(tasks), 10):
            await asyncio.gather(*(task.end() for task in tasks[begin : begin + 10]))
        reap()
    return found


async def _warm_up(place: Place, shim: Shim, settle_s: float) -> None:
    """Run the node's first pod, which is not measured: after it the spawner runs."""
    await (await running(place, shim)).end()
    reap()
    await asyncio.sleep(settle_s)


async def _idle(pids: Sequence[int], *, ours: bool) -> dict[str, float]:
    before = {pid: (cpu_seconds(pid), _switches(pid)) for pid in pids}
    began = time.monotonic()
    await asyncio.sleep(3)
    took = time.monotonic() - began
    cpu = sum(cpu_seconds(pid) - before[pid][0] for pid in pids)
    switches = sum(_switches(pid) - before[pid][1] for pid in pids)
    spawners = [pid for pid in descendants(os.getpid()) if is_spawner(pid)] if ours else []
    everyone = [*pids, *spawners]
    rollups = [_rollup(pid) for pid in everyone]
    private = [_private(pid) for pid in pids]
    return {
        "PSS": sum(rollup["Pss"] for rollup in rollups),
        "PSS per pod": sum(rollup["Pss"] for rollup in rollups) / len(pids),
        "private per pod": statistics.median(private),
        "idle CPU s/h per pod": cpu / took / len(pids) * 3600,
        "wake-ups/min per pod": switches / took / len(pids) * 60,
    }


def is_spawner(pid: int) -> bool:
    """Whether a process is the spawner."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(SPAWNER_TITLE)
    return False


def _switches(pid: int) -> int:
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for line in (thread / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def _private(pid: int) -> int:
    rollup = _rollup(pid)
    return rollup["Private_Clean"] + rollup["Private_Dirty"]


def _rollup(pid: int) -> dict[str, int]:
    """smaps_rollup in bytes."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        found[name.rstrip(":")] = int(value) * 1024
    return found


async def flat(place: Place, shims: Sequence[Shim], count: int, settle_s: float) -> Samples:
    """The private memory of a pod server after N execs: `private after execs@N` for five N up to `count`."""
    found = samples()
    for shim in shims:
        await _warm_up(place, shim, settle_s)
        task = await running(place, shim)
        pid = await task.shim_pid()
        done = 0
        for target in (count // 20, *(count * part // 4 for part in range(1, 5))):
            while done < target:
                await one_exec(task, f"flat{done}")
                done += 1
            found[shim.name][f"private after execs@{target}"].append(_private(pid))
        await task.end()
        reap()
    return found


async def stats(place: Place, shims: Sequence[Shim], calls: int, rounds: int) -> Samples:
    """Stats of a running container: the shim's CPU seconds per call, and its private memory afterwards."""
    found = samples()
    tasks = [await running(place, shim) for shim in shims]
    pids = [await task.shim_pid() for task in tasks]
    for turn in range(-1, rounds):
        for task, pid in zip(tasks, pids, strict=True):
            before, began = cpu_seconds(pid), time.perf_counter()
            for _ in range(calls):
                await task.stats()
            took, cpu_s = time.perf_counter() - began, cpu_seconds(pid) - before
            if turn >= 0:
                found[task.shim.name]["Stats"].append(took / calls)
                found[task.shim.name]["CPU of a Stats"].append(cpu_s / calls)
    for task, pid in zip(tasks, pids, strict=True):
        found[task.shim.name]["private after Stats"].append(_private(pid))
        await task.end()
    return found
