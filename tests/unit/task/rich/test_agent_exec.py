"""What a Pause waits for: the OCI runtime stands in the container's cgroup while it makes a process there."""

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from runtime.errors import FailedPrecondition, RuntimeFailed
from shim.task.reaper import Exit
from shim.task.rich.agent_exec import AgentExec
from tests.fakes.loop import in_loop, until

PROCESS = {"args": ["systemctl", "restart"]}


class Runtime:
    """An OCI runtime's exec that takes until `gate` is set, and says no where `error` is."""

    def __init__(self, bundle):
        self.bundle, self.gate, self.error, self.calls = bundle, asyncio.Event(), None, 0

    async def exec(self, container, options, fds):
        self.calls += 1
        await self.gate.wait()
        if self.error:
            raise RuntimeFailed(self.error)
        (self.bundle / options.pid_file.rpartition("/")[2]).write_text("7")


def made(tmp_path):
    runtime = Runtime(tmp_path)
    ends = []
    killed = []
    reaper = SimpleNamespace(
        expecting=nullcontext, watch=lambda pid, ended: ends.append(ended), kill=killed.append, killed=killed
    )
    return AgentExec("c", str(tmp_path), runtime, reaper), runtime, ends


@in_loop
async def test_a_program_is_run_to_its_end_and_leaves_no_file(tmp_path):
    run, runtime, ends = made(tmp_path)
    runtime.gate.set()
    running = asyncio.ensure_future(run.program(PROCESS, timeout_s=5))
    await until(lambda: ends)
    ends[0](Exit(7, 3, 0))
    assert await running == (3, "")
    assert list(tmp_path.iterdir()) == []


@in_loop
async def test_who_freezes_waits_for_starts_and_keeps_others_from_beginning(tmp_path):
    run, runtime, ends = made(tmp_path)
    await run.wait_for_starts()
    running = asyncio.ensure_future(run.program(PROCESS, timeout_s=5))
    await until(lambda: runtime.calls)
    run.frozen = True
    waiting = asyncio.ensure_future(run.wait_for_starts())
    with pytest.raises(FailedPrecondition, match="frozen"):
        await run.program(PROCESS, timeout_s=5)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (runtime.calls, waiting.done()) == (1, False)
    runtime.gate.set()
    await waiting  # not for its end
    assert not running.done()
    ends[0](Exit(7, 0, 0))
    assert await running == (0, "")


@in_loop
async def test_a_start_that_fails_is_waited_for_no_longer(tmp_path):
    run, runtime, _ = made(tmp_path)
    runtime.error = "exec failed: no such file"
    runtime.gate.set()
    with pytest.raises(RuntimeFailed, match="no such file"):
        await run.program(PROCESS, timeout_s=5)
    await run.wait_for_starts()
    assert list(tmp_path.iterdir()) == []


@in_loop
async def test_a_program_that_the_container_keeps_from_beginning_takes_no_longer_than_others(tmp_path):
    """By freezing the process, for which the OCI runtime waits."""
    run, _, _ = made(tmp_path)
    with pytest.raises(RuntimeFailed, match=r"systemctl: took longer than 0.05s"):
        await asyncio.wait_for(run.program(PROCESS, timeout_s=0.05), 5)
    await asyncio.wait_for(run.wait_for_starts(), 5)


@in_loop
async def test_a_program_that_takes_too_long_is_killed(tmp_path):
    run, runtime, _ = made(tmp_path)
    runtime.gate.set()
    with pytest.raises(RuntimeFailed, match=r"took longer"):
        await run.program(PROCESS, timeout_s=0.05)
    assert run.reaper.killed == [7]
    assert list(tmp_path.iterdir()) == []
