"""The state a spawner is in when it forks."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import sys
sys.path[:] = sys.argv[1].split(":")
import asyncio, gc, json, os, socket
from shim.spawner import server as spawner

def report(self, idle_s):
    links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if int(name) > 2]
    found = {"frozen": gc.get_freeze_count(), "others": len(gc.get_objects()), "threads": os.listdir("/proc/self/task"),
             "polls": [link for link in links if "eventpoll" in link]}
    os.write(1, json.dumps(found).encode())

spawner.Spawner.serve = report
spawner.warmup.run = lambda directory, rounds: None  # needs root
pid = os.getpid()
lock = os.open("spawner.sock.lock", os.O_RDWR | os.O_CREAT)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("spawner.sock")
numbers = [str(fd) for fd in (lock, os.pidfd_open(pid), listener.detach())]
spawner.main(["spawner.sock", f"{pid} 0 0 0", *numbers, "1", " " * 512])
"""


def test_everything_is_loaded_and_frozen_and_nothing_runs(tmp_path: Path):

    paths = ":".join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-ISc", PROGRAM, paths],
        cwd=tmp_path,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["frozen"] > 10_000
    assert found["others"] < 1_000  # what was made since; what a collection would have to visit, and write to
    assert len(found["threads"]) == 1
    assert found["polls"] == []
    assert list(tmp_path.iterdir()) == []
