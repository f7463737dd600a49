import pytest

from protos.gen import cgroups_v1_pb2, cgroups_v2_pb2
from runtime.cgroup import Cgroup
from runtime.errors import NotFound
from shim.task import stats


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
    answer = stats.to_any(Cgroup(unified=write(tmp_path, files)))
    assert answer.type_url == "io.containerd.cgroups.v2.Metrics"
    metrics = cgroups_v2_pb2.Metrics.FromString(answer.value)
    assert (metrics.memory.usage, metrics.memory.usage_limit) == (7, 2**64 - 1)
    assert (metrics.cpu.psi.some.avg10, metrics.cpu.psi.some.total) == (0.5, 9)
    assert metrics.io.usage[0].wios == 4
    assert metrics.hugetlb[0].pagesize == "2MB"
    assert metrics.rdma.limit[0].hca_handles == 2**32 - 1
    assert not metrics.HasField("pids")


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
    answer = stats.to_any(Cgroup(controllers=tuple((name, root) for name in names)))
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
        stats.to_any(Cgroup(unified=str(tmp_path / "gone")))
