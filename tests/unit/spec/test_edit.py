"""runtime.spec.edit: edits leave their argument alone, and made twice are as made once."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidArgument
from runtime.spec import edit
from runtime.spec.edit import Edit, Step

SPEC = {
    "ociVersion": "1.1.0",
    "x-unknown": {"kept": [1, None]},
    "process": {
        "args": ["a"],
        "env": ["A=1", "B=2", "A=3", "NOVALUE"],
        "x-unknown": True,
    },
    "mounts": [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/a", "x-unknown": 1},
    ],
}

EDITS = [
    Edit("with_args", ["b", "c"]),
    Edit("with_env", {"A": "x=y", "C": ""}),
    Edit("with_mount", {"destination": "/a", "type": "bind"}),
    Edit("with_mount", {"destination": "/new", "type": "bind"}),
    Edit("without_mount", "/a"),
    Edit("without_mount", "/none"),
    Edit("with_mount_before", {"mount": {"destination": "/run", "type": "tmpfs"}, "before": ["/a"]}),
    Edit("with_mount_before", {"mount": {"destination": "/a", "type": "tmpfs"}, "before": []}),
    Edit("with_mount_replaced", {"destination": "/a", "type": "tmpfs"}),
    Edit("with_mount_replaced", {"destination": "/new", "type": "tmpfs"}),
    Edit("with_process", {"terminal": True, "env": ["A=1"]}),
    Edit("with_namespace", "cgroup"),
    Edit("with_cgroups_path", "/a/b"),
]


@pytest.mark.parametrize("one", EDITS, ids=lambda one: one.operation)
def test_an_edit_leaves_its_argument_alone(one):
    before = copy.deepcopy(SPEC)
    one(SPEC)
    assert before == SPEC


@pytest.mark.parametrize("one", EDITS, ids=lambda one: one.operation)
def test_an_edit_made_twice_is_as_made_once(one):
    assert one(one(SPEC)) == one(SPEC)


@pytest.mark.parametrize("one", EDITS, ids=lambda one: one.operation)
def test_unknown_keys_survive(one):
    after = one(SPEC)
    assert after["x-unknown"] == SPEC["x-unknown"]
    assert after["process"]["x-unknown"] is True
    assert after["mounts"][0] == SPEC["mounts"][0]


@pytest.mark.parametrize("one", EDITS, ids=lambda one: one.operation)
def test_a_spec_without_the_part_gets_it(one):
    assert json.loads(json.dumps(one({}))) is not None


def test_every_operation_has_a_case():
    assert {one.operation for one in EDITS} == set(edit.OPERATIONS)


def destinations(spec):
    return [one["destination"] for one in spec["mounts"]]


def test_a_mount_is_put_before_the_first_of_those_that_must_lie_on_top():
    before = {"mounts": [{"destination": one} for one in ("/proc", "/run/b", "/run/a")]}
    after = edit.with_mount_before(before, {"mount": {"destination": "/run"}, "before": ["/run/a", "/run/b"]})
    assert destinations(after) == ["/proc", "/run", "/run/b", "/run/a"]


def test_a_mount_is_replaced_where_it_stands_and_only_once():
    before = {"mounts": [{"destination": one} for one in ("/x", "/a", "/x")]}
    after = edit.with_mount_replaced(before, {"destination": "/x", "type": "tmpfs"})
    assert after["mounts"] == [{"destination": "/x", "type": "tmpfs"}, {"destination": "/a"}]


def test_a_namespace_that_is_there_is_left_alone():
    joined = {"linux": {"namespaces": [{"type": "cgroup", "path": "/proc/7/ns/cgroup"}]}}
    assert edit.with_namespace(joined, "cgroup") == joined
    assert edit.with_namespace({}, "cgroup") == {"linux": {"namespaces": [{"type": "cgroup"}]}}


def test_the_last_entry_of_a_variable_counts_as_in_the_oci_runtimes():
    assert edit.env(SPEC) == {"A": "3", "B": "2"}


def test_setting_a_variable_replaces_every_entry_of_it():
    assert edit.with_env(SPEC, {"A": "new"})["process"]["env"] == ["B=2", "NOVALUE", "A=new"]


def test_a_mount_goes_after_all_others_in_place_of_one_at_its_destination():
    found = edit.with_mount(SPEC, {"destination": "/proc", "type": "bind"})
    assert [one["destination"] for one in found["mounts"]] == ["/a", "/proc"]
    assert found["mounts"][-1]["type"] == "bind"


def test_steps_are_made_in_order():
    steps = [Step("a", "", Edit("with_args", ["1"])), Step("b", "", Edit("with_args", ["2"]))]
    assert edit.args(edit.apply(SPEC, steps)) == ("2",)


@pytest.mark.parametrize(
    ("spec", "read", "message"),
    [
        ({"process": []}, edit.args, "config.json: process: found [], allowed an object"),
        ({"process": {"args": "a"}}, edit.args, 'config.json: process.args: found "a", allowed an array'),
        ({"process": {"args": [1]}}, edit.args, "config.json: process.args[0]: found 1, allowed a string"),
        ({"process": {"env": [None]}}, edit.env, "config.json: process.env[0]: found null, allowed a string"),
        ({"mounts": {}}, edit.mounts, "config.json: mounts: found a table, allowed an array"),
        ({"mounts": ["a"]}, edit.mounts, 'config.json: mounts[0]: found "a", allowed an object'),
        ({"mounts": [{}]}, edit.mounts, "config.json: mounts[0].destination: found null, allowed a string"),
        (
            {"annotations": {"a": 1}},
            edit.annotations,
            'config.json: annotations["a"]: found 1, allowed a string',
        ),
    ],
)
def test_a_wrong_shape_is_named(spec, read, message):
    with pytest.raises(InvalidArgument) as caught:
        read(spec)
    assert str(caught.value) == message


@given(
    st.lists(st.text()),
    st.dictionaries(st.text(min_size=1).filter(lambda name: "=" not in name), st.text(), max_size=3),
)
def test_what_is_set_is_what_is_read(entries, new):
    spec = {"process": {"env": entries}}
    after = edit.env(edit.with_env(spec, new))
    assert {name: after[name] for name in new} == new
    assert {name: value for name, value in after.items() if name not in new} == {
        name: value for name, value in edit.env(spec).items() if name not in new
    }
