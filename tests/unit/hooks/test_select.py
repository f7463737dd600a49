"""runtime.hooks.select: which hooks, in which order."""

import json
from dataclasses import asdict, replace

import pytest

from runtime import config
from runtime.config.annotations import read_overrides
from runtime.hooks.select import Selection, hook_from_dict, select
from runtime.spec.identity import Identity

NODE = """
version = 1
[hooks]
pod-timeout-max = "10s"
poststop-budget = "7s"
prestart = [
  { name = "check", where = "host", command = ["/bin/check"], env = { A = "b" } },
  { name = "systemd-only", command = ["x"], when = { mode = ["systemd"] } },
]
poststop = [
  { name = "first", where = "host", command = ["/bin/first"] },
  { name = "second", command = ["second"], user = "nobody", timeout = "50s" },
]
"""
HOOKS = json.dumps([{"name": "a", "command": ["a"]}, {"name": "b", "command": ["b"], "timeout": "3s"}])
POD = {
    "pouchrich.io/prestart": HOOKS,
    "pouchrich.io/poststop": HOOKS,
    "pouchrich.io/init-script": "/setup.sh 'two words'",
}


def selected(annotations=None, *, mode="dumb-init", body=NODE):
    node = config.parse(body, source="c.toml")
    overrides = read_overrides(POD if annotations is None else annotations, {}, container="app", config=node)
    return select(node, overrides, Identity("default", "img", "app"), mode=mode)


def names(hooks):
    return [hook.name for hook in hooks]


def test_prestart_is_the_nodes_then_the_pods_then_its_init_script():
    assert names(selected().prestart) == ["check", "a", "b", "init-script"]


def test_poststop_is_the_same_order_backwards():
    assert names(selected().poststop) == ["b", "a", "second", "first"]


def test_a_hook_applies_where_its_when_selects():
    assert "systemd-only" in names(selected(mode="systemd").prestart)


def test_the_init_script_is_split_like_a_shells_line_and_aborts():
    script = selected().prestart[-1]
    assert (script.command, script.on_failure, script.where) == (("/setup.sh", "two words"), "abort", "container")
    assert script.timeout_s == 10


def test_a_pods_hook_runs_in_the_container_as_the_pods_user_and_within_the_nodes_limit():
    node = config.parse(NODE, source="c.toml")
    overrides = read_overrides(POD, {}, container="app", config=node)
    bent = tuple(
        replace(hook, where="host", user="root", mandatory=True, timeout_s=999.0)
        for hook in overrides["prestart"].value
    )
    overrides = {"prestart": overrides["prestart"]._replace(value=bent)}
    found = select(node, overrides, Identity("", "", ""), mode="dumb-init").prestart[1:]
    assert [(hook.where, hook.user, hook.mandatory, hook.timeout_s) for hook in found] == [
        ("container", None, False, 10.0)
    ] * 2


def test_without_hooks_there_is_nothing():
    assert selected({}, body="version = 1") == Selection()


def test_a_hook_survives_json():
    found = selected(mode="systemd")
    for hook in (*found.prestart, *found.poststop):
        assert hook_from_dict(json.loads(json.dumps(asdict(hook)))) == hook


def test_a_hook_without_an_owner_is_none_of_ours():
    told = asdict(selected().prestart[0])
    del told["owner"]
    with pytest.raises(KeyError):
        hook_from_dict(told)


def test_hooks_after_the_stop_have_the_nodes_budget():
    found = selected(mode="systemd")
    assert (found.poststop_budget_s, found.pod_poststop_budget_s) == (7, 7)


def test_each_hook_has_its_owner():
    found = selected(mode="systemd")
    assert [hook.owner for hook in found.prestart] == ["node", "node", "pod", "pod", "pod"]
    assert [hook.owner for hook in found.poststop] == ["pod", "pod", "node", "node"]


def test_a_pods_poststop_hooks_have_the_time_of_the_longest_at_most():
    found = selected(body=NODE.replace('poststop-budget = "7s"', 'poststop-budget = "5m"'))
    assert (found.poststop_budget_s, found.pod_poststop_budget_s) == (300, 10)
