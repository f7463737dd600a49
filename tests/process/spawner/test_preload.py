"""What the spawner has loaded when it forks."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import sys
sys.path[:] = sys.argv[1].split(":")
import ctypes, os  # libffi 3.5 keeps its own file open, with O_CLOEXEC
from shim.spawner import preload
before = sorted(os.listdir("/proc/self/fd"))
preload.load()
assert sorted(os.listdir("/proc/self/fd")) == before, "descriptors"
assert len(os.listdir("/proc/self/task")) == 1, "threads"
print(*sys.modules)
"""


def loaded() -> set[str]:
    paths = ":".join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-ISc", PROGRAM, paths], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_pod_server_is_loaded_whole_and_nothing_is_open_or_runs():
    assert {
        "shim.pod.server",
        "shim.pod.daemon",
        "shim.pod.log",
        "asyncio",
        "protos.gen.task_pb2",
        "runtime.config",
    } <= loaded()


def test_nothing_is_loaded_that_does_work_in_every_fork():
    # 1.5 ms from fork to the child's first line with `random`, 0.9 ms without.
    assert "random" not in loaded()
