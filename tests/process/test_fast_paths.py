"""What `start` imports on its fast path: each module is paid for by every pod that the native program leaves to it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"shim", "shim.__main__"}

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import shim.__main__
for name in sys.argv[2:]:
    __import__(name)
print(*sorted(set(sys.modules) - before))
"""


def test_the_fast_path_imports_no_more_than_it_must():
    done = subprocess.run(
        [sys.executable, "-IS", "-c", PROGRAM, str(ROOT), "shim.manager.start"],
        capture_output=True,
        text=True,
        check=True,
    )
    allowed = {"shim.manager", "shim.manager.start", "shim.spawner", "shim.spawner.request", "_socket"}
    assert set(done.stdout.split()) == OURS | allowed


@pytest.mark.parametrize(
    "module", ["shim.manager.command", "shim.manager.delete", "shim.spawner.child", "shim.spawner.launch"]
)
def test_the_slow_paths_need_nothing_heavy_before_they_act(module):
    done = subprocess.run(
        [sys.executable, "-IS", "-c", PROGRAM, str(ROOT), module], capture_output=True, text=True, check=True
    )
    heavy = {"asyncio", "google", "logging", "re", "enum", "json", "subprocess", "ctypes"}
    assert not heavy & {name.split(".")[0] for name in done.stdout.split()}
