"""The end of an agent that is to be started anew, with real processes."""

import asyncio
import shutil
from pathlib import Path

import pytest

from shim.task.reaper import Reaper
from shim.task.rich.agent_end import end_process
from tests.fakes.loop import until

BUSYBOX = shutil.which("busybox", path="/usr/bin:/bin")
pytestmark = pytest.mark.skipif(BUSYBOX is None, reason="needs a busybox")


async def run(path, script, grace_s):
    reaper = Reaper(asyncio.get_running_loop())
    reaper.install()
    with (path / "said").open("wb") as said:
        child = reaper.spawn([BUSYBOX, "sh", "-c", script], {1: said.fileno()}, {"PATH": "/bin:/usr/bin"})
    await until(lambda: (path / "said").read_text().endswith("\n"))
    below = [int(pid) for pid in (path / "said").read_text().split()]
    await end_process(child.pid, child.ended, grace_s=grace_s)
    assert child.ended.done()
    await end_process(child.pid, child.ended, grace_s=grace_s)  # nothing is done to a pid that is another's by now
    return child.ended.result().status, below


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_one_that_heeds_sigterm_ends_in_its_own_way(tmp_path, isolated):
    script = "busybox sleep 600 & trap 'kill $!; exit 5' TERM; echo $!; wait"
    isolated(lambda: act(tmp_path, script, 60.0, 5))


def test_one_that_does_not_is_killed_with_all_that_is_below_it(tmp_path, isolated):
    script = "trap '' TERM; busybox sh -c 'trap \"\" TERM; busybox sleep 600 & echo $$ $!; wait' & wait; wait"
    isolated(lambda: act(tmp_path, script, 0.2, 137))


def act(path, script, grace_s, expected):
    status, below = asyncio.run(run(path, script, grace_s))
    assert status == expected
    asyncio.run(until(lambda: not any(map(is_there, below))))
