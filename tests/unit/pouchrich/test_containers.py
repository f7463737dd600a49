"""pouchrich.containers: bundles found by the index, and by what people type."""

import pytest

from pouchrich import containers
from runtime import index, paths
from runtime.errors import InvalidArgument, NotFound
from runtime.rich.plan import Plan
from runtime.rich.policy import Decision
from shim.contract import identifiers
from shim.spawner import warmup
from tests.unit.pouchrich.nodes import DUMB, SYSTEMD

PLAIN = Plan(False, None, (Decision("rich", "true", "built in"), Decision("rich", "false", "an init")))
CRI = {
    "io.kubernetes.cri.sandbox-name": "web-0",
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.image-name": "registry/app:1",
}


def test_a_bundle_tells_who_the_container_is(node):
    state = {"version": 1, "init": 41, "application": 42, "manner": "pidfd"}
    hooks = {"version": 1, "hooks": [{"stage": "prestart", "name": "h"}]}
    node.bundle("abc", SYSTEMD, annotations=CRI, init=40, state=state, hooks=hooks, agents=[{"name": "a"}])
    (found,) = containers.every(root=node.index)
    assert (found.label, found.image, found.init) == ("shop/web-0/app", "registry/app:1", "systemd")
    assert (found.init_pid, found.state["application"]) == (41, 42)
    assert [one["name"] for one in (*found.hooks, *found.agents)] == ["h", "a"]
    assert found.plan == SYSTEMD


def test_outside_a_pod_containerds_names_are_used(node):
    node.bundle("abc", DUMB, namespace="default", init=40)
    (found,) = containers.every(root=node.index)
    assert (found.label, found.pod, found.init, found.init_pid) == ("default/abc", None, "dumb-init", 40)


def test_what_is_half_written_or_gone_is_left_out(node):
    node.bundle("one", DUMB, hooks="not a list", agents={"agents": [1]})
    (node.top / "state/k8s.io/one/state.json").write_text('{"ver')
    (node.bundle("two", DUMB) / "pouchrich.json").unlink()
    (found,) = containers.every(root=node.index)
    assert (found.id, found.state, found.hooks, found.agents, found.init_pid) == ("one", {}, (), (), 0)


def test_a_record_of_another_kind_is_named_and_the_others_are_there(node, capsys):
    (node.bundle("one", DUMB) / "pouchrich.json").write_text('{"version": 1}')
    node.bundle("two", DUMB)
    assert [one.id for one in containers.every(root=node.index)] == ["two"]
    said = capsys.readouterr().err
    assert said.startswith("pouchrich: container one is left out: ")
    assert "one/pouchrich.json: found a record of another version, allowed one" in said


def test_a_further_container_of_a_pod_is_found_though_it_is_plain(node, monkeypatch):
    """The others are in containerd's bundles, of which there is no list."""
    pods = node.top / "pods"
    monkeypatch.setattr(paths, "PODS", str(pods))
    rich, plain = node.bundle("abc1", DUMB, annotations=CRI), node.bundle("abc2", PLAIN, annotations=CRI)
    (pods / "k8s.io/sandbox").mkdir(parents=True)
    index.unregister("k8s.io", "abc2", root=node.index)
    (pods / "k8s.io/sandbox/abc1").symlink_to(rich)
    (pods / "k8s.io/sandbox/abc2").symlink_to(plain)
    (pods / "k8s.io/sandbox/half").mkdir()
    for name in ("abc2", "k8s.io/abc2"):
        with pytest.raises(NotFound):
            containers.one(name, root=node.index)
        found = containers.one(name, root=node.index, plain=True)
        assert (found.id, found.mode, found.plan.decisions[-1].source) == ("abc2", "", "an init")
    assert containers.one("abc1", root=node.index, plain=True).bundle == str(rich)
    with pytest.raises(InvalidArgument, match="which means 2 containers"):
        containers.one("shop/web-0/app", root=node.index, plain=True)
    (pods / "k8s.io/sandbox/abc1").unlink()
    index.unregister("k8s.io", "abc1", root=node.index)
    assert containers.one("shop/web-0", root=node.index, plain=True).id == "abc2"


def test_a_container_is_found_by_the_beginning_of_its_id(node):
    node.bundle("abc1", DUMB)
    node.bundle("abc2", DUMB)
    node.bundle("abc", DUMB, namespace="default")
    assert containers.one("abc1", root=node.index).id == "abc1"
    assert containers.one("abc", root=node.index).namespace == "default"
    assert containers.one("k8s.io/abc2", root=node.index).id == "abc2"
    with pytest.raises(
        InvalidArgument, match=r"'ab', which means 3 containers, allowed one of default/abc, k8s\.io/abc1"
    ):
        containers.one("ab", root=node.index)
    with pytest.raises(NotFound, match="found 'x', allowed a rich container"):
        containers.one("x", root=node.index)
    with pytest.raises(NotFound):
        containers.one("", root=node.index)


def test_what_a_spawner_warms_up_with_is_no_container(node):
    node.bundle("container-120", DUMB, namespace=warmup.NAMESPACE)
    assert list(containers.every(root=node.index)) == []
    with pytest.raises(NotFound):
        containers.one("container-120", root=node.index)


def test_what_a_spawner_warms_up_with_is_in_no_namespace_of_containerds():
    with pytest.raises(InvalidArgument):
        identifiers.check("namespace", warmup.NAMESPACE)
