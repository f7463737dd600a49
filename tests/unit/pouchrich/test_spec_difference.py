"""pouchrich.spec_difference: what changed, by path."""

from pouchrich.spec_difference import Change, difference


def test_equal_specs_do_not_differ():
    assert difference({"process": {"args": ["a"]}}, {"process": {"args": ["a"]}}) == ()


def test_values_are_compared_by_path_and_lists_whole():
    before = {"process": {"args": ["a"], "cwd": "/"}, "linux": {"cgroupsPath": "/x"}}
    after = {"process": {"args": ["i", "a"], "cwd": "/", "terminal": True}, "linux": {"cgroupsPath": "/x"}}
    assert difference(before, after) == (
        Change("process.args", ["a"], ["i", "a"]),
        Change("process.terminal", None, True),
    )


def test_mounts_are_compared_by_destination_also_where_two_are_at_one():
    proc, run, other = (
        {"destination": one, "type": kind} for one, kind in (("/proc", "p"), ("/run", "t"), ("/run", "b"))
    )
    assert difference({"mounts": [proc]}, {"mounts": [proc, run, other]}) == (
        Change("mounts[/run]", None, run),
        Change("mounts[/run #2]", None, other),
    )


def test_variables_are_compared_by_name_and_a_pods_values_are_not_shown():
    before = {"process": {"env": ["PASSWORD=secret", "PATH=/bin", "KEPT=1"]}}
    after = {"process": {"env": ["PATH=/sbin", "KEPT=1", "container=pouch"]}}
    assert difference(before, after) == (
        Change("process.env[PASSWORD]", "...", None),
        Change("process.env[PATH]", "...", "/sbin"),
        Change("process.env[container]", None, "pouch"),
    )
