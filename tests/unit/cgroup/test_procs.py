from runtime import cgroup
from runtime.cgroup import Cgroup


def test_all_levels_are_listed_once_and_in_order(tree):
    root = tree(
        {
            "cgroup.procs": "30\n7\n0\n",
            "system.slice/cgroup.procs": "",
            "system.slice/cron.service/cgroup.procs": "8\n7\n",
            "init.scope/cgroup.procs": "1\n",
            "threaded/cgroup.type": "threaded\n",
        }
    )
    assert cgroup.procs(Cgroup(unified=root)) == [1, 7, 8, 30]


def test_v1_asks_the_memory_hierarchy(tree):
    root = tree({"cpu/cgroup.procs": "1\n", "memory/cgroup.procs": "2\n"})
    controllers = (("cpu", f"{root}/cpu"), ("memory", f"{root}/memory"))
    assert cgroup.procs(Cgroup(controllers=controllers)) == [2]


def test_a_cgroup_that_is_gone_has_nobody(tmp_path):
    assert cgroup.procs(Cgroup(unified=str(tmp_path / "gone"))) == []
