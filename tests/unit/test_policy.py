"""runtime.policy: what is wanted and by whom, before the image is looked at."""

import pytest

from runtime import config, plan


def chosen(annotations=(), *, env=(), body=""):
    spec = {
        "process": {"args": ["app"], "env": list(env)},
        "annotations": {"io.kubernetes.cri.container-name": "web", **dict(annotations)},
    }
    return plan.choose(spec, config.parse(f"version = 1\n{body}", source="/etc/c.toml"))


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
