"""runtime.rich.policy: what is wanted and by whom, before the image is looked at."""

import pytest

from runtime import config
from runtime.errors import InvalidArgument
from runtime.rich import policy
from runtime.spec.identity import Identity

OUTSIDE = Identity(namespace="default", image="", container="c1")
"""A container of ctr's: containerd's own names."""
WEB = Identity(namespace="shop", image="web:1", container="web")


def chosen(annotations=(), *, env=(), body="", identity=WEB):
    spec = {
        "process": {"args": ["app"], "env": list(env)},
        "annotations": {"io.kubernetes.cri.container-name": "web", **dict(annotations)},
    }
    return policy.choose(spec, config.parse(f"version = 1\n{body}", source="/etc/c.toml"), identity)


@pytest.mark.parametrize(
    ("annotations", "env", "source", "by_pod", "is_own"),
    [
        ({"pouchrich.io/mode.web": "systemd"}, (), "annotation pouchrich.io/mode.web", True, True),
        ({"pouchrich.io/mode": "systemd"}, (), "annotation pouchrich.io/mode", True, False),
        ({}, ("rich_mode_launch_manner=systemd",), "variable rich_mode_launch_manner", True, True),
        ({}, (), "/etc/c.toml: rich.mode", False, False),
    ],
)
def test_who_asked_for_a_mode_and_for_which_containers(annotations, env, source, by_pod, is_own):
    found = chosen(annotations, env=env, body="rich.mode = 'systemd'")
    assert (found.mode, found.mode_source) == ("systemd", source)
    assert (found.mode_by_pod, found.mode_is_own) == (by_pod, is_own)


def test_outside_a_pod_every_annotation_is_the_containers_own():
    found = chosen({"io.kubernetes.cri.container-name": "", "pouchrich.io/mode": "systemd"})
    assert found.mode_is_own


def test_services_are_the_nodes_and_then_the_pods_each_once():
    found = chosen({"pouchrich.io/services": "b, c"}, body='services.enable = ["a", "b"]')
    assert found.services == ("a", "b", "c")


def test_a_pod_of_another_container_asks_nothing_of_this_one():
    found = chosen({"pouchrich.io/services.db": "x", "pouchrich.io/mode.db": "systemd"})
    assert (found.services, dict(found.overrides), found.mode) == ((), {}, "dumb-init")


def debugged(annotations=(), *, name="debugger-x7k2p", env=(), body='rich.mode = "systemd"'):
    identity = Identity(namespace="shop", image="web:1", container=name)
    return chosen(
        {"io.kubernetes.cri.container-name": name, **dict(annotations)}, env=env, body=body, identity=identity
    )


@pytest.mark.parametrize("body", ["", 'rich.mode = "systemd"', 'rich.mode = "sbin-init"', 'rich.mode = "auto"'])
@pytest.mark.parametrize("annotations", [{}, {"pouchrich.io/mode": "systemd"}])
def test_a_debugging_container_boots_no_init_that_was_meant_for_its_pod(annotations, body):
    found = debugged(annotations, body=body)
    assert (found.rich, found.mode, found.mode_by_pod, found.mode_is_own) == (True, "dumb-init", False, False)


def test_why_a_debugging_container_has_dumb_init_is_said():
    found = debugged({"pouchrich.io/mode": "systemd"}, body="")
    source = "built in: debugger-* is for ephemeral containers, annotation pouchrich.io/mode asks for systemd"
    assert found.decisions[-1] == policy.Decision("mode", "dumb-init", source)


@pytest.mark.parametrize(
    ("annotations", "env"),
    [({"pouchrich.io/mode.debugger-x7k2p": "systemd"}, ()), ({}, ("rich_mode_launch_manner=systemd",))],
)
def test_a_debugging_container_gets_the_mode_that_is_asked_for_itself(annotations, env):
    assert debugged(annotations, env=env, body="").mode == "systemd"


def test_which_containers_are_for_debugging_is_the_nodes_to_say():
    named = 'rich = { mode = "systemd", ephemeral = ["probe-?"] }'
    assert debugged(name="probe-1", body=named).mode == "dumb-init"
    assert debugged(name="probe-10", body=named).mode == "systemd"
    assert debugged(body=named).mode == "systemd"
    assert debugged(body='rich = { mode = "systemd", ephemeral = [] }').mode == "systemd"


def test_outside_a_pod_no_container_is_ephemeral():
    spec = {"process": {"args": ["app"]}}
    node = config.parse("version = 1\nrich.mode = 'systemd'", source="/etc/c.toml")
    assert policy.choose(spec, node, Identity(namespace="default", image="", container="debugger-1")).mode == "systemd"


@pytest.mark.parametrize("when", ['namespace = ["default"]', 'container = ["c*"]', 'mode = ["systemd"]', ""])
@pytest.mark.parametrize(
    "entry",
    [
        'agents = [{ name = "watch", command = ["/w"], mandatory = true, when = {%s} }]',
        'hooks.prestart = [{ name = "watch", command = ["/w"], mandatory = true, when = {%s} }]',
        'hooks.poststop = [{ name = "watch", command = ["/w"], mandatory = true, when = {%s} }]',
    ],
)
def test_outside_a_pod_what_is_mandatory_is_selected_by_containerds_names(entry, when):
    spec = {"process": {"args": ["app"]}, "annotations": {"pouchrich.io/rich": "false"}}
    node = config.parse(f"version = 1\n{entry % when}", source="/etc/c.toml")
    with pytest.raises(InvalidArgument, match="watch is mandatory"):
        policy.choose(spec, node, OUTSIDE)


def test_what_is_mandatory_elsewhere_lets_a_container_be_plain():
    spec = {"process": {"args": ["app"]}, "annotations": {"pouchrich.io/rich": "false"}}
    body = 'agents = [{ name = "watch", command = ["/w"], mandatory = true, when = { namespace = ["k8s.io"] } }]'
    node = config.parse(f"version = 1\n{body}", source="/etc/c.toml")
    assert not policy.choose(spec, node, OUTSIDE).rich
