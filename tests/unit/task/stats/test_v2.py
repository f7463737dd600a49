import os

import pytest

from protos.gen import cgroups_v2_pb2
from runtime.cgroup import Cgroup
from runtime.errors import NotFound
from shim.task.stats.metrics import Metrics

MAX = 2**64 - 1

# A container's cgroup on a 6.1 kernel, memory.stat shortened.
FILES = {
    "pids.current": "3\n",
    "pids.max": "max\n",
    "cpu.stat": "usage_usec 8149\nuser_usec 4074\nsystem_usec 4075\ncore_sched.force_idle_usec 0\n"
    "nr_periods 11\nnr_throttled 2\nthrottled_usec 95\nnr_bursts 0\nburst_usec 0\n",
    "cpu.pressure": "some avg10=0.51 avg60=0.12 avg300=0.00 total=81234\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=77\n",
    "memory.current": "13357056\n",
    "memory.max": "16777216\n",
    "memory.peak": "16777216\n",
    "memory.swap.current": "0\n",
    "memory.swap.max": "max\n",
    "memory.stat": "anon 8192\nfile 4096\nkernel 65536\nkernel_stack 16384\npagetables 8192\nsock 0\nslab 20480\n"
    "workingset_refault_anon 1\nworkingset_refault_file 2\npgfault 381\npgmajfault 4\n",
    "memory.events": "low 0\nhigh 0\nmax 57\noom 2\noom_kill 1\noom_group_kill 0\n",
    "io.stat": "254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n253:1 \n",
    "rdma.current": "mlx5_0 hca_handle=1 hca_object=20\n",
    "rdma.max": "mlx5_0 hca_handle=2 hca_object=max\n",
    "hugetlb.2MB.current": "0\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.events": "max 5\n",
    "hugetlb.2MB.rsvd.current": "0\n",
    "hugetlb.1GB.current": "1073741824\n",
}


def metrics(root):
    """Decoded by the generated code."""
    answer = Metrics(Cgroup(unified=root)).to_any()
    assert answer.type_url == "io.containerd.cgroups.v2.Metrics"
    return cgroups_v2_pb2.Metrics.FromString(answer.value)


def fields(message):
    return {field.name: value for field, value in message.ListFields()}


def test_every_file_reaches_its_field(tree):
    expected = {
        "pids": {"current": 3, "limit": MAX},
        "cpu": {
            "usage_usec": 8149,
            "user_usec": 4074,
            "system_usec": 4075,
            "nr_periods": 11,
            "nr_throttled": 2,
            "throttled_usec": 95,
            "nr_bursts": 0,
            "burst_usec": 0,
            "psi": {
                "some": {"avg10": 0.51, "avg60": 0.12, "avg300": 0.0, "total": 81234},
                "full": {"avg10": 0.0, "avg60": 0.0, "avg300": 0.0, "total": 77},
            },
        },
        "memory": {
            "usage": 13357056,
            "usage_limit": 16777216,
            "max_usage": 16777216,
            "swap_usage": 0,
            "swap_limit": MAX,
            "anon": 8192,
            "file": 4096,
            "kernel_stack": 16384,
            "sock": 0,
            "slab": 20480,
            "workingset_refault_anon": 1,
            "workingset_refault_file": 2,
            "pgfault": 381,
            "pgmajfault": 4,
        },
        "memory_events": {"low": 0, "high": 0, "max": 57, "oom": 2, "oom_kill": 1, "oom_group_kill": 0},
        "io": {
            "usage": [
                {"major": 254, "minor": 0, "rbytes": 4096, "wbytes": 0, "rios": 1, "wios": 0},
                {"major": 253, "minor": 1},
            ]
        },
        "rdma": {
            "current": [{"device": "mlx5_0", "hca_handles": 1, "hca_objects": 20}],
            "limit": [{"device": "mlx5_0", "hca_handles": 2, "hca_objects": 2**32 - 1}],
        },
        "hugetlb": [
            {"pagesize": "1GB", "current": 1073741824},
            {"pagesize": "2MB", "current": 0, "max": MAX, "failcnt": 5},
        ],
    }
    assert metrics(tree(FILES)) == cgroups_v2_pb2.Metrics(**expected)


@pytest.mark.parametrize("missing", sorted(FILES))
def test_a_missing_file_takes_its_fields_away_and_nothing_else(tree, missing):
    everything = fields(metrics(tree(FILES)))
    root = tree({})
    os.unlink(f"{root}/{missing}")
    rest = fields(metrics(root))
    assert rest.keys() <= everything.keys()
    assert all(rest[key] == everything[key] for key in rest if not missing.startswith(key.split("_")[0]))


EMPTY = cgroups_v2_pb2.Metrics(**{name: {} for name in ("pids", "cpu", "memory", "io", "rdma")})
"""Of these clients do not ask whether they are there."""


def test_no_controller_is_no_field(tree):
    assert metrics(tree({"cgroup.procs": ""})) == EMPTY


def test_a_file_of_another_shape_is_as_good_as_missing(tree):
    odd = {"memory.current": "lots\n", "cpu.stat": "usage_usec x\nalone\n", "io.stat": "zram0 rbytes=1\n"}
    assert metrics(tree(odd)) == EMPTY


def test_a_cgroup_that_is_gone_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"^cgroup does not exist$"):
        metrics(str(tmp_path / "gone"))
