from runtime.cgroup import Cgroup, usage


def test_v2_tells_time_and_memory(tree):
    root = tree({"cpu.stat": "usage_usec 2500000\n", "memory.current": "100\n", "memory.stat": "inactive_file 30\n"})
    assert (usage.cpu_s(Cgroup(unified=root)), usage.working_set_bytes(Cgroup(unified=root))) == (2.5, 70)


def test_v1_tells_time_and_memory(tree):
    stat = "inactive_file 7\ntotal_inactive_file 130\n"
    files = {"cpuacct.usage": "2500000000\n", "memory.usage_in_bytes": "100\n", "memory.stat": stat}
    root = tree(files)
    group = Cgroup(controllers=(("memory", root), ("cpuacct", root)))
    assert (usage.cpu_s(group), usage.working_set_bytes(group)) == (2.5, 0)  # never below nothing


def test_what_the_kernel_does_not_tell_is_none(tree):
    group = Cgroup(unified=tree({}))
    assert (usage.cpu_s(group), usage.working_set_bytes(group)) == (None, None)
