"""pouchrich.processes: /proc files of all shapes."""

from pouchrich import processes


def test_a_process_is_read_whatever_its_name(node):
    node.process(7, 3, "a) (b 1", "/bin/x", "two words", cgroup="/c", ticks=5, started=9, pages=2)
    found = processes.look(7, node.proc)
    assert (found.pid, found.parent, found.name, found.command) == (7, 3, "a) (b 1", "/bin/x two words")
    assert (found.cpu_ticks, found.identity) == (5, (7, 9))
    assert found.memory_bytes == 2 * processes._PAGE_BYTES
    assert found.cgroups == {"": "/c"}


def test_a_process_without_a_command_line_is_shown_by_its_name(node):
    node.process(7, 3, "kworker", cgroup="/")
    assert processes.look(7, node.proc).command == "[kworker]"


def test_zombies_and_what_has_gone_are_nothing(node):
    node.process(7, 3, "x", cgroup="/")
    stat = node.top / "proc/7/stat"
    stat.write_text(stat.read_text().replace(" S ", " Z "))
    assert processes.listed([7, 8], node.proc) == {}


def test_a_unit_is_the_first_below_the_containers_own_cgroup(node):
    node.process(1, 0, "systemd", cgroup="/k.slice/a.service/pod/init.scope")
    node.process(2, 1, "cron", cgroup="/k.slice/a.service/pod/system.slice/cron.service")
    node.process(3, 1, "x", cgroup="/k.slice/a.service/pod/user.slice/user@0.service/app.slice/y.service")
    node.process(4, 1, "x", cgroup="/k.slice/a.service/pod")
    node.process(5, 1, "x", cgroup="/elsewhere/z.service")
    found = processes.listed([1, 2, 3, 4, 5], node.proc)
    assert [processes.unit_of(found[pid], found[1]) for pid in (2, 3, 4, 5)] == [
        "cron.service",
        "user@0.service",
        "",
        "",
    ]
    assert processes.unit_of(found[2], found[4]) == ""


def test_roots_are_inits_children_known_ones_and_strangers(node):
    for pid, parent in ((10, 5), (11, 10), (12, 11), (13, 12), (20, 5), (21, 20)):
        node.process(pid, parent, "x", cgroup="/")
    found = processes.listed([10, 11, 12, 13, 20, 21], node.proc)
    assert processes.roots(found, 10, {12}) == {11: 11, 12: 12, 13: 12, 20: 20, 21: 20}


def test_a_circle_of_parents_ends(node):
    for pid, parent in ((11, 12), (12, 11)):
        node.process(pid, parent, "x", cgroup="/")
    node.process(13, 12, "x", cgroup="/")
    found = processes.roots(processes.listed([11, 12, 13], node.proc), 1, ())
    assert set(found) == {11, 12, 13}
    assert set(found.values()) <= {11, 12}


class Counted(dict):
    """Processes, and how often one was looked up."""

    lookups = 0

    def __getitem__(self, pid):
        self.lookups += 1
        return super().__getitem__(pid)


def test_the_roots_of_a_long_chain_take_few_lookups_each():
    chain = range(2, 20_002)
    process = processes.Process(0, 0, "x", "x", 0, 0, 0, 0, {})
    found = Counted({pid: process._replace(pid=pid, parent=pid - 1) for pid in (1, *chain)})
    deepest_first = Counted(sorted(found.items(), reverse=True))
    for one in (found, deepest_first):
        assert processes.roots(one, 1, {10_000}) == {pid: 10_000 if pid >= 10_000 else 2 for pid in chain}
        assert one.lookups <= 3 * len(one)
