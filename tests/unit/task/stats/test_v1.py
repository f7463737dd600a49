import os

import pytest

from protos.gen import cgroups_v1_pb2
from runtime.cgroup import Cgroup
from runtime.errors import NotFound
from shim.task.stats.metrics import Metrics

# A container's cgroups on a 6.18 kernel with v1 mounted, memory.stat shortened.
FILES = {
    "memory/memory.stat": "cache 9310208\nrss 8810496\nshmem 9084928\npgpgin 36720\npgmajfault 4\n"
    "unevictable 16363520\nhierarchical_memory_limit 16777216\nhierarchical_memsw_limit 9223372036854771712\n"
    "total_cache 421814272\ntotal_pgpgout 3304713\ntotal_pgfault 3521549\ntotal_unevictable 16363520\n",
    "memory/memory.limit_in_bytes": "16777216\n",
    "memory/memory.usage_in_bytes": "13357056\n",
    "memory/memory.max_usage_in_bytes": "16777216\n",
    "memory/memory.failcnt": "57\n",
    "memory/memory.kmem.usage_in_bytes": "1335296\n",
    "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    "cpu/cpu.stat": "nr_periods 11\nnr_throttled 2\nthrottled_time 95\nnr_bursts 0\nburst_time 0\n",
    "cpu/cpuacct.usage": "165078962639\n",
    "cpu/cpuacct.stat": "user 12053\nsystem 4454\n",
    "cpu/cpuacct.usage_percpu": "56456218944 108622743695 \n",
    "pids/pids.current": "3\n",
    "pids/pids.max": "max\n",
    "blkio/blkio.bfq.io_service_bytes_recursive": "Total 0\n",
    "blkio/blkio.throttle.io_service_bytes_recursive": "999:7 Read 4096\n999:7 Write 0\n999:7 Total 4096\nTotal 4096\n",
    "blkio/blkio.throttle.io_service_bytes": "999:7 Read 1\n",
    "blkio/blkio.bfq.time_recursive": "999:7 77\n",
    "hugetlb/hugetlb.2MB.usage_in_bytes": "2097152\n",
    "hugetlb/hugetlb.2MB.max_usage_in_bytes": "4194304\n",
    "hugetlb/hugetlb.2MB.failcnt": "1\n",
    "hugetlb/hugetlb.2MB.rsvd.usage_in_bytes": "0\n",
    "rdma/rdma.current": "mlx5_0 hca_handle=1 hca_object=20\n",
}
TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
DEVICE = {"device": "", "major": 999, "minor": 7}


def group(root):
    names = ("memory", "pids", "blkio", "hugetlb", "rdma")
    both = (("cpu", f"{root}/cpu"), ("cpuacct", f"{root}/cpu"))
    return Cgroup(controllers=(*((name, f"{root}/{name}") for name in names), *both))


def metrics(group):
    """Decoded by the generated code."""
    answer = Metrics(group).to_any()
    assert answer.type_url == "io.containerd.cgroups.v1.Metrics"
    return cgroups_v1_pb2.Metrics.FromString(answer.value)


def fields(message):
    return {field.name: value for field, value in message.ListFields()}


def test_every_file_reaches_its_field(tree):
    expected = {
        "memory": {
            "cache": 9310208,
            "rss": 8810496,
            "pg_pg_in": 36720,
            "pg_maj_fault": 4,
            "unevictable": 16363520,
            "hierarchical_memory_limit": 16777216,
            "hierarchical_swap_limit": 9223372036854771712,
            "total_cache": 421814272,
            "total_pg_pg_out": 3304713,
            "total_pg_fault": 3521549,
            "total_unevictable": 16363520,
            "usage": {"limit": 16777216, "usage": 13357056, "max": 16777216, "failcnt": 57},
            "kernel": {"usage": 1335296},
        },
        "memory_oom_control": {"oom_kill_disable": 0, "under_oom": 0, "oom_kill": 3},
        "cpu": {
            "usage": {
                "total": 165078962639,
                "user": 12053 * TICK,
                "kernel": 4454 * TICK,
                "per_cpu": [56456218944, 108622743695],
            },
            "throttling": {"periods": 11, "throttled_periods": 2, "throttled_time": 95},
        },
        "pids": {"current": 3, "limit": 0},
        "blkio": {
            "io_service_bytes_recursive": [
                {"op": "Read", "value": 4096, **DEVICE},
                {"op": "Write", "value": 0, **DEVICE},
                {"op": "Total", "value": 4096, **DEVICE},
            ],
            "io_time_recursive": [{"op": "", "value": 77, **DEVICE}],
        },
        "hugetlb": [{"pagesize": "2MB", "usage": 2097152, "max": 4194304, "failcnt": 1}],
        "rdma": {"current": [{"device": "mlx5_0", "hca_handles": 1, "hca_objects": 20}], "limit": []},
    }
    assert metrics(group(tree(FILES))) == cgroups_v1_pb2.Metrics(**expected)


CPU = {"usage": {}, "throttling": {}}


def test_a_pids_limit_is_itself(tree):
    root = tree({"pids/pids.max": "100\n"})
    found = metrics(Cgroup(controllers=(("pids", f"{root}/pids"),)))
    assert found == cgroups_v1_pb2.Metrics(pids={"limit": 100}, cpu=CPU)


@pytest.mark.parametrize("missing", sorted(FILES))
def test_a_missing_file_takes_its_fields_away_and_nothing_else(tree, missing):
    root = tree(FILES)
    everything = fields(metrics(group(root)))
    os.unlink(f"{root}/{missing}")
    rest = fields(metrics(group(root)))
    controller = missing.partition("/")[0]
    assert rest.keys() <= everything.keys()
    assert all(rest[key] == everything[key] for key in rest if key.partition("_")[0] != controller)


def test_controllers_without_files_give_empty_messages_and_named_hierarchies_none(tree):
    """containerd's core/metrics, and clients, do not ask whether these are there."""
    root = tree({"memory/tasks": ""})
    controllers = (("memory", f"{root}/memory"), ("name=systemd", f"{root}/memory"), ("cpu", f"{root}/nowhere"))
    assert metrics(Cgroup(controllers=controllers)) == cgroups_v1_pb2.Metrics(memory={}, cpu=CPU)


def test_a_cgroup_that_is_gone_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"^cgroup does not exist$"):
        metrics(group(str(tmp_path / "gone")))
