"""runtime.cgroup.v1_parent_limits: v1 limits on two levels."""

import pytest

from runtime.cgroup import v1_parent_limits


@pytest.fixture
def made(tmp_path):
    """Make files of a controller's three levels, pod, upper and lower; the lower directory."""

    def make(controller, pod, above, below):
        top = tmp_path / controller / "pod"
        for directory, values in ((top, pod), (top / "c", above), (top / "c/pouchrich", below)):
            directory.mkdir(parents=True, exist_ok=True)
            for name, value in values.items():
                (directory / name).write_text(f"{value}\n")
        return str(top / "c/pouchrich")

    return make


def test_what_the_runtime_set_below_stands_above_as_well(made, tmp_path):
    memory = made("memory", {}, {"memory.limit_in_bytes": 9}, {"memory.limit_in_bytes": 4096})
    cpu = made("cpu", {}, {"cpu.shares": 1024, "cpu.cfs_quota_us": -1}, {"cpu.shares": 512, "cpu.cfs_quota_us": 5000})
    v1_parent_limits.copy_to_parent({"memory": memory, "cpu": cpu})
    assert (tmp_path / "memory/pod/c/memory.limit_in_bytes").read_text().startswith("4096")
    assert (tmp_path / "cpu/pod/c/cpu.shares").read_text().startswith("512")
    assert (tmp_path / "cpu/pod/c/cpu.cfs_quota_us").read_text().startswith("5000")


def test_what_is_above_has_room_before_it_gets_what_is_below(made, monkeypatch):
    written = []
    monkeypatch.setattr(
        v1_parent_limits, "_write", lambda path, value: written.append((path.rpartition("/")[2], value))
    )
    v1_parent_limits.copy_to_parent(
        {"cpu": made("cpu", {}, {"cpu.cfs_quota_us": 1}, {"cpu.cfs_period_us": 50, "cpu.cfs_quota_us": 5000})}
    )
    assert written == [("cpu.cfs_quota_us", "-1"), ("cpu.cfs_period_us", "50"), ("cpu.cfs_quota_us", "5000")]


def test_before_an_update_there_is_room_above(made, tmp_path):
    cpu = made("cpu", {}, {"cpu.cfs_quota_us": 5000}, {"cpu.cfs_quota_us": 5000})
    cpuset = made("cpuset", {"cpuset.cpus": "0-3"}, {"cpuset.cpus": "0"}, {"cpuset.cpus": "0"})
    v1_parent_limits.loosen_parent({"cpu": cpu, "cpuset": cpuset})
    assert (tmp_path / "cpu/pod/c/cpu.cfs_quota_us").read_text().startswith("-1")
    assert (tmp_path / "cpuset/pod/c/cpuset.cpus").read_text().startswith("0-3")
    assert (tmp_path / "cpu/pod/c/pouchrich/cpu.cfs_quota_us").read_text() == "5000\n"


def test_what_is_not_there_is_left(made, tmp_path):
    v1_parent_limits.copy_to_parent(
        {"memory": made("memory", {}, {}, {"memory.limit_in_bytes": 1}), "freezer": "/nowhere/a/b"}
    )
    v1_parent_limits.loosen_parent({"cpuset": "/nowhere/a/b"})
    assert list((tmp_path / "memory/pod/c").iterdir()) == [tmp_path / "memory/pod/c/pouchrich"]
