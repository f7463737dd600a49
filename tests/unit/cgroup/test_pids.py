"""runtime.cgroup.pids: what the kernel's files say of a limit on the number of processes, on v1 and v2."""

import pytest

from runtime.cgroup import Cgroup, pids


@pytest.fixture
def tree(tmp_path):
    """A hierarchy whose root has no limit, and `pod/container` below it, with their files."""

    def make(pod=("max", 0), container=("max", 0)):
        (tmp_path / "pod/container").mkdir(parents=True, exist_ok=True)
        for path, (most, refused) in {"pod": pod, "pod/container": container}.items():
            (tmp_path / path / "pids.max").write_text(f"{most}\n")
            (tmp_path / path / "pids.events").write_text(f"max {refused}\n")
        return str(tmp_path / "pod/container")

    return make


@pytest.mark.parametrize(
    "made", [lambda path: Cgroup(unified=path), lambda path: Cgroup(controllers=(("memory", "/m"), ("pids", path)))]
)
def test_what_was_refused_is_counted_wherever_the_kernel_counts_it(tree, made):
    assert pids.refused_forks(made(tree())) == 0
    assert pids.refused_forks(made(tree(container=("max", 3)))) == 3
    assert pids.refused_forks(made(tree(pod=(12, 2)))) == 2
    assert (
        pids.refused_forks(made(tree(pod=("max", 3), container=(7, 3)))) == 3
    )  # since Linux 6.11, one refusal is in both


def test_the_lowest_limit_is_the_one_that_holds(tree):
    assert pids.limit(Cgroup(unified=tree())) is None
    path = tree(pod=(12, 0), container=("max", 0))
    assert pids.limit(Cgroup(unified=path)) == (12, path.removesuffix("/container"))
    path = tree(pod=(12, 0), container=(7, 0))
    assert pids.limit(Cgroup(unified=path)) == (7, path)


def test_without_the_controller_there_is_nothing_to_tell(tmp_path):
    for cgroup in (Cgroup(controllers=(("memory", str(tmp_path)),)), Cgroup(unified=str(tmp_path / "gone"))):
        assert (pids.refused_forks(cgroup), pids.limit(cgroup)) == (0, None)


def test_what_holds_for_a_container_that_is_no_more_is_told_by_the_cgroups_above_it(tree, tmp_path):
    tree(pod=(3, 0), container=(2, 0))
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        f"1 2 0:3 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n1 2 0:4 / {tmp_path} rw - cgroup cgroup rw,pids\n"
    )
    assert pids.limit_above("/pod/container", mounts=str(mountinfo)) == (3, f"{tmp_path}/pod")
    assert pids.limit_above("/other/container", mounts=str(mountinfo)) is None
