"""runtime.oci.interrupted: what a create that was cut short leaves."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.oci import interrupted

WAITS = "import sys; sys.stdin.read()"
BUNDLE = f"/b/{os.getpid()}"
"""Of this run alone: its creates are looked for on the whole machine, and there are other runs."""


def runtime(*words):
    """A process with the words of an OCI runtime's command line behind its own, until its input is closed."""
    child = subprocess.Popen([sys.executable, "-c", WAITS, *words], stdin=subprocess.PIPE)
    while words[-1].encode() not in Path(f"/proc/{child.pid}/cmdline").read_bytes():
        time.sleep(0.001)  # exec(2) shows them a moment after it lets the parent go on
    return child


@pytest.mark.parametrize("patience_s", [0.1, -1.0])
def test_a_create_that_takes_too_long_is_killed(patience_s):
    with runtime("/opt/crun", "--root", "/r", "create", "--bundle", BUNDLE, "c1") as child:
        interrupted.wait_for_creates(BUNDLE, patience_s=patience_s)
        assert child.wait(5) == -9


def test_a_create_that_ends_is_waited_for():
    with runtime("/opt/crun", "create", "--bundle", BUNDLE, "c1") as child:
        began = time.monotonic()
        end = threading.Timer(0.3, child.terminate)
        end.start()
        interrupted.wait_for_creates(BUNDLE, patience_s=10.0)
        assert 0.2 < time.monotonic() - began < 5
        assert child.wait(5) == -15
        end.join()


def test_an_init_that_waits_to_be_started_is_killed(tmp_path):
    with runtime("/opt/crun", "create", "--bundle", str(tmp_path), "c1") as child:
        interrupted.remove_leftovers(str(tmp_path), "c1", patience_s=0.1)
        assert child.wait(5) == -9


@pytest.mark.parametrize(
    "words",
    [("create", "--bundle", f"{BUNDLE}2", "c1"), ("exec", BUNDLE), ("create", "c1")],
    ids=["of another", "an exec", "of none"],
)
def test_others_are_let_alone(words):
    with runtime("/opt/crun", *words) as child:
        interrupted.wait_for_creates(BUNDLE, patience_s=0.0)
        interrupted.remove_leftovers(BUNDLE, "c1", patience_s=0.0)
        assert child.poll() is None


@pytest.fixture
def hierarchies(tmp_path):
    """Two hierarchies with a container's cgroup and one below it in each, and the mountinfo that shows them."""
    lines = []
    for name in ("memory", "unified"):
        (tmp_path / name / "pod/c1/below").mkdir(parents=True)
        (tmp_path / name / "pod/c2").mkdir()
        (tmp_path / name / "cgroup.procs").touch()
        lines.append(f"1 2 0:3 / {tmp_path}/{name} rw - {'cgroup2' if name == 'unified' else 'cgroup'} x rw\n")
    (tmp_path / "mountinfo").write_text("".join(lines))
    return tmp_path


def left(directory):
    return {str(path.relative_to(directory)) for path in directory.glob("*/*/*")}


def remove(directory, path, container_id="c1"):
    spec = {"linux": {"cgroupsPath": path}}
    interrupted.remove_cgroups(spec, container_id, patience_s=0.1, mounts=str(directory / "mountinfo"))


def test_the_containers_cgroups_go_and_its_neighbours_stay(hierarchies):
    remove(hierarchies, "/pod/c1")
    assert left(hierarchies) == {"memory/pod/c2", "unified/pod/c2"}


def test_a_tree_in_use_stays_whole_and_does_not_keep_the_others(hierarchies):
    (hierarchies / "memory/pod/c1/below/cgroup.procs").write_text("7\n")
    (hierarchies / "memory/pod/c1/empty").mkdir()
    began = time.monotonic()
    remove(hierarchies, "/pod/c1")
    assert left(hierarchies) == {"memory/pod/c1", "memory/pod/c2", "unified/pod/c2"}
    assert (hierarchies / "memory/pod/c1/empty").is_dir()
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("path", "container_id", "dies"),
    [("/pod/c1", "c1", True), ("/pod/c1", "1", False), ("/pod/c1", "pod", False), ("/pod/c1/below", "below", True)],
)
def test_what_lives_in_a_cgroup_of_the_containers_name_is_killed_with_it(hierarchies, path, container_id, dies):
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE) as child:
        (hierarchies / f"memory{path}/cgroup.procs").write_text(f"{child.pid}\n")
        remove(hierarchies, path, container_id)
        assert (child.poll() == -9) == dies
        child.kill()


def test_who_clears_a_cgroup_is_not_killed_with_it(hierarchies):
    (hierarchies / "memory/pod/c1/cgroup.procs").write_text(f"{os.getpid()}\n")
    remove(hierarchies, "/pod/c1")


@pytest.mark.parametrize(
    ("path", "bears"),
    [
        ("/kubepods/podU/c1", True),
        ("/kubepods/podU/c1/pouchrich", True),
        ("/system.slice/cri-containerd-c1.scope", True),
        ("/system.slice/cri-containerd-ac1.scope", False),
        ("/c1/x", False),
        ("/kubepods/podU/xc1", False),
    ],
)
def test_a_containers_own_cgroup_is_known_by_its_name(path, bears):
    assert interrupted._bears(path, "c1") == bears


@pytest.mark.parametrize("path", ["", "pod/c1", "/", "/..", "/pod/../pod/c1", None])
def test_a_path_that_does_not_say_where_it_is_removes_nothing(hierarchies, path):
    before = left(hierarchies)
    remove(hierarchies, path)
    assert left(hierarchies) == before


def test_a_hierarchy_that_is_covered_by_another_mount_is_left_alone(hierarchies):
    """crun makes plain directories and files in a tmpfs over a hierarchy, with the numbers of processes long gone."""
    (hierarchies / "unified/cgroup.procs").unlink()
    (hierarchies / "unified/pod/c1/cgroup.procs").write_text(f"{os.getpid()}\n")
    remove(hierarchies, "/pod/c1")
    assert left(hierarchies) == {"memory/pod/c2", "unified/pod/c1", "unified/pod/c2"}


def test_the_level_above_a_nested_cgroup_goes_with_it(hierarchies):
    for name in ("memory", "unified"):
        (hierarchies / name / "pod/c3/pouchrich/left").mkdir(parents=True)
    remove(hierarchies, "/pod/c3/pouchrich", "c3")
    assert not any((hierarchies / name / "pod/c3").exists() for name in ("memory", "unified"))
