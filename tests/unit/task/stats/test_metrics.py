import errno
import gc

import pytest

from protos.gen import cgroups_v1_pb2, cgroups_v2_pb2
from runtime.cgroup import Cgroup, kept
from runtime.errors import NotFound
from shim.task.stats import metrics as metrics_module
from shim.task.stats.metrics import Metrics
from tests.fakes import garbage
from tests.fakes.loop import open_below


def write(directory, files):
    for name, text in files.items():
        (directory / name).write_text(text)
    return str(directory)


def test_v2_metrics_come_under_their_bare_name(tmp_path):
    files = {
        "memory.current": "7\n",
        "memory.max": "max\n",
        "cpu.pressure": "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\n",
        "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n",
        "hugetlb.2MB.current": "5\n",
        "rdma.max": "m hca_handle=max hca_object=1\n",
    }
    answer = Metrics(Cgroup(unified=write(tmp_path, files))).to_any()
    assert answer.type_url == "io.containerd.cgroups.v2.Metrics"
    metrics = cgroups_v2_pb2.Metrics.FromString(answer.value)
    assert (metrics.memory.usage, metrics.memory.usage_limit) == (7, 2**64 - 1)
    assert (metrics.cpu.psi.some.avg10, metrics.cpu.psi.some.total) == (0.5, 9)
    assert metrics.io.usage[0].wios == 4
    assert metrics.hugetlb[0].pagesize == "2MB"
    assert metrics.rdma.limit[0].hca_handles == 2**32 - 1
    assert (metrics.HasField("pids"), metrics.pids.current) == (True, 0), "clients do not ask whether it is there"
    assert not metrics.HasField("memory_events")


def test_v1_metrics_come_under_their_bare_name(tmp_path):
    files = {
        "memory.usage_in_bytes": "7\n",
        "memory.stat": "pgpgin 3\ntotal_rss 4\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        "cpuacct.usage_percpu": "1 2\n",
        "cpu.stat": "nr_periods 5\n",
        "blkio.time_recursive": "999:0 6\n",
        "hugetlb.2MB.usage_in_bytes": "5\n",
    }
    root = write(tmp_path, files)
    names = ("memory", "cpu", "cpuacct", "blkio", "hugetlb")
    answer = Metrics(Cgroup(controllers=tuple((name, root) for name in names))).to_any()
    assert answer.type_url == "io.containerd.cgroups.v1.Metrics"
    metrics = cgroups_v1_pb2.Metrics.FromString(answer.value)
    assert metrics.memory.usage.usage == 7
    assert (metrics.memory.pg_pg_in, metrics.memory.total_rss) == (3, 4)
    assert metrics.memory_oom_control.oom_kill == 2
    assert list(metrics.cpu.usage.per_cpu) == [1, 2]
    assert metrics.cpu.throttling.periods == 5
    assert metrics.blkio.io_time_recursive[0].value == 6
    assert metrics.hugetlb[0].usage == 5


def test_a_cgroup_that_is_gone_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        Metrics(Cgroup(unified=str(tmp_path / "gone"))).to_any()


def pids(metrics):
    return cgroups_v2_pb2.Metrics.FromString(metrics.to_any().value).pids


def test_what_has_changed_is_told_the_next_time(tmp_path):
    metrics = Metrics(Cgroup(unified=write(tmp_path, {"pids.current": "1\n", "pids.max": "max\n"})))
    for count in (1, 1, 22, 0, 22):
        (tmp_path / "pids.current").write_text(f"{count}\n")
        assert (pids(metrics).current, pids(metrics).limit) == (count, 2**64 - 1)


def test_a_file_is_read_once_for_an_answer_be_it_the_first_or_the_second(tmp_path, monkeypatch):
    metrics = Metrics(Cgroup(unified=write(tmp_path, {"pids.current": "1\n", "pids.max": "max\n"})))
    reads, pread = [], kept.os.pread
    monkeypatch.setattr(kept.os, "pread", lambda *given: reads.append(given) or pread(*given))
    for number in (1, 2):
        metrics.to_any()
        assert len(reads) == 2 * number
    metrics.rest()
    metrics.to_any()
    assert len(reads) == 6


def test_a_look_for_what_is_missing_is_freed_without_a_garbage_collection(tmp_path):
    names = ("memory", "cpu", "blkio", "hugetlb", "rdma")
    metrics = Metrics(Cgroup(controllers=tuple((name, str(tmp_path)) for name in names)))
    write(tmp_path, {"memory.usage_in_bytes": "7\n"})
    gc.collect()
    for _ in range(2):
        metrics.to_any()
        metrics.rest()
    assert garbage.of_ours() == []


def test_a_file_that_comes_later_is_found(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(metrics_module.time, "monotonic", lambda: clock[0])
    metrics = Metrics(Cgroup(unified=write(tmp_path, {"pids.current": "1\n"})))
    assert pids(metrics).limit == 0
    (tmp_path / "pids.max").write_text("9\n")
    clock[0] += metrics_module.LOOK_AGAIN_S
    assert pids(metrics).limit == 9


def test_descriptors_are_given_back_at_rest_and_in_the_end(tmp_path):
    metrics = Metrics(Cgroup(unified=write(tmp_path, {"pids.current": "1\n", "hugetlb.2MB.current": "5\n"})))
    metrics.to_any()
    assert open_below(tmp_path) == 2
    metrics.rest()
    assert open_below(tmp_path) == 0
    assert pids(metrics).current == 1
    metrics.close()
    assert open_below(tmp_path) == 0
    with pytest.raises(NotFound, match=r"^cgroup does not exist$"):
        metrics.to_any()
    assert open_below(tmp_path) == 0


def test_what_has_gone_is_not_found_and_leaves_no_descriptor(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir()
    metrics = Metrics(Cgroup(unified=write(tmp_path / "c", {"pids.current": "1\n", "pids.max": "2\n"})))
    metrics.to_any()
    (tmp_path / "c").rename(tmp_path / "d")

    def gone(*_):  # what the kernel says of a file whose cgroup is gone
        raise OSError(errno.ENODEV, "")

    monkeypatch.setattr(kept.os, "pread", gone)
    with pytest.raises(NotFound):
        metrics.to_any()
    assert open_below(tmp_path) == 0


def test_what_goes_in_the_midst_of_the_first_look_is_not_found(tmp_path, monkeypatch):
    (tmp_path / "c").mkdir()
    metrics = Metrics(Cgroup(unified=write(tmp_path / "c", {"pids.current": "1\n", "pids.max": "2\n"})))
    pread = kept.os.pread

    def last(*given):
        if (tmp_path / "c").exists():
            (tmp_path / "c").rename(tmp_path / "d")
        return pread(*given)

    monkeypatch.setattr(kept.os, "pread", last)
    with pytest.raises(NotFound):
        metrics.to_any()
    assert open_below(tmp_path) == 0


def test_no_cgroup_is_not_found():
    with pytest.raises(NotFound):
        Metrics(None).to_any()


def test_cgroups_of_the_containers_own_are_no_files_of_it(tmp_path):
    root = write(tmp_path, {"hugetlb.2MB.current": "5\n"})
    for name in ("hugetlb.8MB.current", "memory.current", "hugetlb.2MB.max", "io.stat"):
        (tmp_path / name).mkdir()
    metrics = Metrics(Cgroup(unified=root))
    found = cgroups_v2_pb2.Metrics.FromString(metrics.to_any().value)
    empty = {name: {} for name in ("pids", "cpu", "memory", "io", "rdma")}
    assert found == cgroups_v2_pb2.Metrics(hugetlb=[{"pagesize": "2MB", "current": 5}], **empty)
    metrics.close()
    assert open_below(tmp_path) == 0
