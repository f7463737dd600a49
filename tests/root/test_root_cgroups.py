"""runtime.cgroup.unmounted and .tree on the kernel's own cgroups. Needs root."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runtime.cgroup import Cgroup, delegation, files, pids, tree, unmounted
from runtime.errors import RuntimeFailed
from runtime.init.cgroup import Delegation
from runtime.linux import mountinfo
from runtime.oci import argv
from tests.root.test_launcher import program  # noqa: F401 (a fixture)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NAME = f"/pouchrich-test-{os.getpid()}"
INNER = f"{NAME}/{unmounted.INNER}"


@pytest.fixture
def own():
    """A path of the v2 tree, with two levels made, while the test lasts."""
    unmounted.make(NAME, descendants=20, depth=4)
    with unmounted.mounted() as root:
        yield f"{root}{INNER}"
    assert unmounted.remove(NAME, patience_s=5)


@pytest.fixture
def named():
    """A directory below name=systemd of cgroup v1."""
    mounts = mountinfo.read(fstypes=["cgroup"])
    found = next((one.mount_point for one in mounts if "name=systemd" in one.options), None)
    if found is None:
        pytest.skip("no name=systemd hierarchy")
    path = f"{found}{NAME}"
    os.mkdir(path)
    yield path
    assert tree.remove(path, until=time.monotonic() + 10)


def test_the_kernel_holds_to_the_bounds_and_nothing_asks_the_host_for_more(own):
    for number in range(19):
        os.mkdir(f"{own}/{number}")
    with pytest.raises(BlockingIOError):
        os.mkdir(f"{own}/one-more")
    os.rmdir(f"{own}/0")
    with pytest.raises(BlockingIOError):
        os.makedirs(f"{own}/1/2/3/4")
    assert not os.path.exists(f"{own}/notify_on_release")


def test_no_mount_is_seen_and_no_option_of_the_hierarchy_changed():
    before = Path("/proc/self/mountinfo").read_text()
    unmounted.make(NAME, descendants=20, depth=4)
    assert unmounted.remove(NAME, patience_s=5)
    assert Path("/proc/self/mountinfo").read_text() == before


def test_what_another_of_the_name_has_left_is_replaced(own):
    os.makedirs(f"{own}/left/behind")
    unmounted.make(NAME, descendants=20, depth=4)
    assert not os.path.exists(f"{own}/left")


def test_a_program_enters_before_it_begins_and_who_is_elsewhere_is_refused(own, program):  # noqa: F811
    with pytest.raises(RuntimeFailed, match="left the container in cgroup v2"):
        unmounted.check(NAME, os.getpid())
    fd = unmounted.open_procs(NAME)
    try:
        words = argv.entering(
            program, fd, ["/bin/sh", "-c", "echo $(cat /proc/self/cgroup) $(ls /proc/self/fd); read x"]
        )
        child = subprocess.Popen(words, pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = child.stdout.readline()
        assert f"0::{unmounted.home()}{INNER}".replace("//", "/") in said.split()
        assert str(fd) not in said.split()
        unmounted.check(NAME, child.pid)
        assert unmounted.remove(NAME, patience_s=5)  # kills
        assert child.wait(5) == -signal.SIGKILL
        child.stdin.close()
        child.stdout.close()
    finally:
        os.close(fd)


@pytest.mark.parametrize("words", [["x", "/bin/true"], ["2", "/bin/true"], ["77", "/bin/true"]])
def test_what_cannot_be_entered_is_not_begun(program, words):  # noqa: F811
    found = subprocess.run([program, "enter", *words], capture_output=True, text=True, check=False)
    assert found.returncode == 125
    assert found.stderr.startswith("pouchrich-launch: ")


def test_thousands_of_levels_go_in_bounded_time(named):
    fd = os.open(named, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=fd)
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    for number in range(5000):
        os.mkdir(f"{named}/{number}")
    began = time.monotonic()
    assert not tree.remove(named, until=began + 0.01)
    assert time.monotonic() - began < 2
    assert tree.remove(named, until=time.monotonic() + 30)
    os.mkdir(named)


def test_a_cgroup_with_a_process_stays_and_the_rest_goes(named):
    os.makedirs(f"{named}/busy/below")
    os.makedirs(f"{named}/idle/below")
    with subprocess.Popen(["sleep", "100"]) as child:
        Path(f"{named}/busy/below/cgroup.procs").write_text(str(child.pid))
        assert not tree.remove(named, until=time.monotonic() + 0.1)
        assert (os.path.isdir(f"{named}/busy/below"), os.path.isdir(f"{named}/idle")) == (True, False)
        child.kill()
    assert tree.remove(named, until=time.monotonic() + 5)
    os.mkdir(named)


def test_pid_1_is_settled_in_a_leaf_from_where_the_cgroup_above_is_free_for_controllers(own):
    made = Delegation(16, 3, leaf="app")
    with subprocess.Popen(["/bin/sleep", "1000"]) as child:
        try:
            files.write(f"{own}/cgroup.procs", str(child.pid))
            delegation.apply(made, own, owner=(4242, 4243))
            delegation.move_to_leaf(made, own, child.pid, owner=(4242, 4243))
            assert Path(own, "cgroup.procs").read_text() == ""
            assert Path(own, "app/cgroup.procs").read_text() == f"{child.pid}\n"
            available = Path(own, "cgroup.controllers").read_text().split()
            assert Path(own, "cgroup.subtree_control").read_text().split() == available
            assert (Path(own, "cgroup.max.descendants").read_text(), Path(own, "cgroup.max.depth").read_text()) == (
                "16\n",
                "3\n",
            )
            for name in ("", "cgroup.procs", "cgroup.subtree_control", "app", "app/cgroup.procs"):
                about = Path(own, name).stat()
                assert (about.st_uid, about.st_gid) == (4242, 4243), name
            assert Path(own, "cgroup.max.descendants").stat().st_uid == 0
        finally:
            child.kill()


def test_what_was_frozen_in_the_lower_level_is_ended_with_pid_1(own):
    process = subprocess.Popen(["sleep", "1000"])
    try:
        files.write(f"{own}/cgroup.procs", str(process.pid))
        files.write(f"{own}/cgroup.freeze", "1")
        delegation.end(Delegation(20, 4, unmounted=NAME))
        assert process.wait(timeout=10) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def test_nothing_forks_for_a_while_and_what_was_allowed_before_is_again():
    mounts = mountinfo.read(fstypes=mountinfo.CGROUPS)
    found = [one.mount_point for one in mounts if os.path.exists(f"{one.mount_point}/cgroup.procs")]
    root = next((one for one in found if "/pids" in one), None)
    if root is None:
        pytest.skip("no hierarchy of pids")
    directory = f"{root}{NAME}"
    os.mkdir(directory)
    try:
        for before in ("max", "77"):
            files.write(f"{directory}/pids.max", before)
            with pids.no_forks(Cgroup(controllers=(("pids", directory),))):
                script = f"echo 0 >{directory}/cgroup.procs; (:) 2>/dev/null"
                assert subprocess.run(["sh", "-c", script], check=False, stderr=subprocess.DEVNULL).returncode != 0
            assert files.read(directory, "pids.max") == f"{before}\n".encode()
    finally:
        os.rmdir(directory)


def test_without_the_controller_nothing_is_written():
    for cgroup in (None, Cgroup(unified="/not/there")):
        with pids.no_forks(cgroup):
            pass
