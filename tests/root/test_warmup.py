"""What the spawner goes through before it serves, and that nothing is left of it. Needs root."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# They are killed, and on a busy machine may die late.
NO_CHILD_IS_LEFT = """
end = time.monotonic() + 10
while time.monotonic() < end:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        sys.exit(0)
    time.sleep(0.01)
sys.exit("a child is left")
"""

PROGRAM = """
import sys
sys.path[:] = sys.argv[1].split(":")
import os, signal, threading, time
from shim.spawner import preload
from shim.spawner import warmup
preload.load()
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs
lists = {name: sorted(os.listdir(name)) for name in ("/proc/self/fd", sys.argv[2])}
handlers = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)}
played = []
if sys.argv[3] == "failing":
    warmup.PROCESS["args"] = ["missing"]
try:
    warmup.run(f"{sys.argv[2]}/warmup", rounds=2)
except BaseException as err:
    played.append(err)
assert [str(err) for err in played] == [] or sys.argv[3] == "failing", played
assert len(played) == (sys.argv[3] == "failing"), played
for name, before in lists.items():
    assert sorted(os.listdir(name)) == before, (name, before, sorted(os.listdir(name)))
for number, before in handlers.items():
    assert signal.getsignal(number) == before, number
assert len(os.listdir("/proc/self/task")) == 1
for root in ("containers", "bundles"):
    assert not os.path.exists(f"/run/pouchrich/{root}/.warmup"), root
"""


def run(tmp_path: Path, how: str) -> None:
    paths = ":".join([str(ROOT), *filter(None, sys.path)])
    own_run = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "-"]
    program = [*own_run, sys.executable, "-ISc", PROGRAM + NO_CHILD_IS_LEFT, paths, str(tmp_path), how]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.stderr


def test_it_plays_through_and_leaves_nothing(tmp_path: Path):
    run(tmp_path, "well")


def test_a_warm_up_that_fails_leaves_nothing_either(tmp_path: Path):
    run(tmp_path, "failing")


SLEEPER = """
import sys
sys.path[:] = sys.argv[1].split(":")
import os, time
from shim.spawner import warmup
try:
    warmup._sleeper("/proc/self/no such directory/pid")
    raise AssertionError("written")
except FileNotFoundError:
    pass
"""


def test_a_process_whose_pid_cannot_be_written_is_not_left():
    paths = ":".join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-ISc", SLEEPER + NO_CHILD_IS_LEFT, paths], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
