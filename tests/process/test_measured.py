"""Counts and times that outlive a pod: what is kept, that it is bounded, and that a kill loses one at most."""

import fcntl
import json
import os
import random
import signal
import time

import pytest

from runtime import measured
from runtime.measured import SECONDS


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "run/metrics")


def found(root):
    return {(one.name, one.labels): one for one in measured.read(root)}


def test_counts_and_times_add_up(root):
    for _ in range(3):
        assert measured.add("exits", {"reason": "Completed", "mode": "systemd"}, 1.0, root=root)
    for seconds in (0.01, 0.05, 0.3, 1000.0):
        assert measured.add("boot_seconds", {"mode": "systemd"}, seconds, bounds=SECONDS, root=root)
    exits = found(root)["exits", (("mode", "systemd"), ("reason", "Completed"))]
    assert (exits.total, exits.buckets) == (3.0, ())
    boots = found(root)["boot_seconds", (("mode", "systemd"),)]
    assert (boots.buckets[0], boots.buckets[3], boots.buckets[-1], sum(boots.buckets)) == (2, 1, 1, 4)
    assert boots.total == pytest.approx(1000.36)
    assert {os.stat(f"{root}/{name}").st_mode & 0o777 for name in os.listdir(root)} == {0o600}
    assert os.stat(root).st_mode & 0o777 == 0o700


def test_a_lock_that_is_taken_is_waited_for_by_nobody(root):
    measured.add("exits", {}, 1.0, root=root)
    with open(f"{root}/exits") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        assert measured.add("exits", {}, 1.0, root=root) is False
        assert time.monotonic() - began < 1
    assert measured.add("exits", {}, 1.0, root=root) is True
    assert found(root)["exits", ()].total == 2.0


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "x" * 99, "a,b=c d"])
def test_a_name_is_a_word(root, name):
    with pytest.raises(ValueError, match="series: found"):
        measured.add(name, {}, 1.0, root=root)
    with pytest.raises(ValueError, match="series: found"):
        measured.add("a", {"key": f"../{name}"}, 1.0, root=root)


def test_there_is_only_so_many_of_them(root, monkeypatch):
    monkeypatch.setattr(measured, "MOST_SERIES", 5)
    for number in range(20):
        assert measured.add(f"s{number}", {}, 1.0, root=root)
    assert len(os.listdir(root)) == 5
    assert measured.add("s0", {}, 1.0, root=root)
    assert found(root)["s0", ()].total == 2.0


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"bounds": [1, 2], "buckets": [1, 2, 3], "total": 5}', b"\xff" * 99]
)
def test_what_is_of_another_version_or_torn_begins_anew(root, text):
    os.makedirs(root)
    with open(f"{root}/boot_seconds", "wb") as file:
        file.write(text)
    measured.add("boot_seconds", {}, 0.2, bounds=SECONDS, root=root)
    assert (sum(found(root)["boot_seconds", ()].buckets), found(root)["boot_seconds", ()].total) == (1, 0.2)


def test_strange_files_are_passed_over(root):
    measured.add("exits", {}, 1.0, root=root)
    for name in ("X", "half", ".hidden"):
        with open(f"{root}/{name}", "w") as file:
            file.write("{")
    assert list(found(root)) == [("exits", ())]


def test_writers_that_are_killed_at_any_time_leave_a_count_that_is_right(root):
    """Each child adds ones until it is killed, and says how many it has added; one more may have been under way."""
    measured.add("exits", {}, 0.0, root=root)
    reader, writer = os.pipe()
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            while True:
                if measured.add("exits", {}, 1.0, root=root):
                    os.write(writer, b"x")
        children.append(pid)
    os.close(writer)
    for pid in children:
        time.sleep(random.Random(pid).uniform(0.02, 0.08))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    said = 0
    while data := os.read(reader, 1 << 16):
        said += len(data)
    os.close(reader)
    total = found(root)["exits", ()].total
    assert said > 0
    assert said <= total <= said + len(children)


def test_a_file_is_one_write_of_one_page(root):
    measured.add("boot_seconds", {}, 0.2, bounds=SECONDS, root=root)
    path = f"{root}/boot_seconds"
    assert os.stat(path).st_size == measured._BYTES <= 4096
    full = {"bounds": SECONDS, "buckets": [2**53] * (len(SECONDS) + 1), "total": 1e15}
    assert len(json.dumps(full)) < measured._BYTES
