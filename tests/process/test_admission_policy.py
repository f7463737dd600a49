"""deploy/components/own-node-only: the policy's own expressions, by CEL's reference implementation (cel-expr-python).

What the API server gives them is made here: `object`, `oldObject`, `request` (ValidatingAdmissionPolicy, Kubernetes'
documentation), and `variables`, each of which may use those before it. An expression that fails is a refusal, as
failurePolicy says.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel
from cel_expr_python.ext import ext_optional

from pouchrich.cluster import rollout

POLICY = Path(__file__).parents[2] / "deploy/components/own-node-only/policy.yaml"
OURS = "system:serviceaccount:pouchrich:pouchrich-node"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE: dict[str, Any] = {
    "metadata": {
        "name": "worker-1",
        "labels": {"kubernetes.io/hostname": "worker-1", rollout.mode_label("systemd"): "true"},
        "annotations": {"volumes": "attached"},
    },
    "spec": {"podCIDR": "10.0.0.0/24"},
    "status": {"conditions": []},
}


def by(user: str = OURS, node: str | None = "worker-1") -> dict[str, Any]:
    """A request's `userInfo`: of a pod's token, which names the pod's node; without `extra` where it is nobody's."""
    extra = {} if node is None else {"extra": {NODE_NAME: [node]}}
    return {"userInfo": {"username": user, **extra}}


class Policy:
    def __init__(self) -> None:
        policy, binding = yaml.safe_load_all(POLICY.read_text())
        assert (binding["spec"]["policyName"], binding["spec"]["validationActions"]) == (
            policy["metadata"]["name"],
            ["Deny"],
        )
        self.spec = policy["spec"]
        assert self.spec["failurePolicy"] == "Fail"
        names = ("object", "oldObject", "request", "variables")
        dynamic = dict.fromkeys(names, cel.Type.DYN)
        self._environment = cel.NewEnv(variables=dynamic, extensions=[ext_optional.ExtOptional()])

    def _value(self, expression: str, given: dict[str, Any]) -> Any:
        found = self._environment.compile(expression).eval(data=given)
        if found.type() == cel.Type.ERROR:
            raise ValueError(str(found.value()))
        return found.plain_value()

    def refusals(self, request: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        """The messages of what is violated; none where the request is let through."""
        given = {"request": request, "oldObject": before, "object": after, "variables": {}}
        if not all(self._value(one["expression"], given) for one in self.spec["matchConditions"]):
            return []
        for one in self.spec["variables"]:
            given["variables"][one["name"]] = self._value(one["expression"], given)
        return [one["message"] for one in self.spec["validations"] if self._value(one["expression"], given) is not True]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy()


def changed(place: str, value: Any) -> dict[str, Any]:
    """The node with `value` at a path with slashes in place of dots; None removes what is there."""
    after = copy.deepcopy(NODE)
    *path, last = place.split("|")
    inner = after
    for name in path:
        inner = inner.setdefault(name, {})
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return after


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (f"metadata|labels|{rollout.mode_label('sbin-init')}", "true"),
        (f"metadata|labels|{rollout.mode_label('systemd')}", None),
        (f"metadata|labels|{rollout.VERSION_LABEL}", "0.1.0"),
        ("metadata|resourceVersion", "2"),
    ],
)
def test_it_may_change_its_own_labels_of_its_own_node(policy: Policy, place: str, value: Any):
    assert policy.refusals(by(), NODE, changed(place, value)) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("metadata|labels|kubernetes.io/hostname", "worker-2"),
        ("metadata|labels|kubernetes.io/hostname", None),
        ("metadata|labels|node-role.kubernetes.io/control-plane", ""),
        ("metadata|labels", None),
        ("metadata|labels|pouchrich.io", "x"),
        ("metadata|annotations|volumes", "none"),
        ("metadata|annotations|other", "x"),
        ("metadata|annotations", None),
        ("metadata|finalizers", ["never"]),
        ("metadata|ownerReferences", [{"kind": "ConfigMap", "name": "gone", "uid": "1"}]),
        ("spec|unschedulable", True),
        ("spec|taints", [{"key": "x", "effect": "NoExecute"}]),
        ("spec|podCIDR", None),
    ],
)
def test_it_may_change_nothing_else_of_it(policy: Policy, place: str, value: Any):
    assert policy.refusals(by(), NODE, changed(place, value)) != []


@pytest.mark.parametrize("node", ["worker-2", "", None], ids=["of another", "of none", "not of a pod"])
def test_nor_anything_of_another_node(policy: Policy, node: str | None):
    label = f"metadata|labels|{rollout.VERSION_LABEL}"
    said = policy.refusals(by(node=node), NODE, changed(label, "0.1.0"))
    assert said == ["a pod of this DaemonSet may change its own node only"]


def test_a_node_without_labels_is_no_error(policy: Policy):
    bare = {"metadata": {"name": "worker-1"}, "spec": {}}
    after = {"metadata": {"name": "worker-1", "labels": {rollout.VERSION_LABEL: "0.1.0"}}, "spec": {}}
    assert policy.refusals(by(), bare, after) == []
    assert policy.refusals(by(), after, bare) == []


@pytest.mark.parametrize("user", ["kubelet", "system:serviceaccount:other:pouchrich-node", f"{OURS}2"])
def test_others_are_not_its_business(policy: Policy, user: str):
    assert policy.refusals(by(user), NODE, changed("spec|unschedulable", True)) == []
