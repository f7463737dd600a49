"""deploy/components/own-node-only: the policies' own expressions, by CEL's reference implementation (cel-expr-python).

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

from pouchrich.cluster import labels, probe
from tests.unit.pouchrich.test_rollout import Api

POLICY = Path(__file__).parents[2] / "deploy/components/own-node-only/policy.yaml"
OURS = "system:serviceaccount:pouchrich:pouchrich-node"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE: dict[str, Any] = {
    "metadata": {
        "name": "worker-1",
        "labels": {"kubernetes.io/hostname": "worker-1", labels.of_mode("systemd"): "true"},
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
    """The one of that name, with its binding."""

    def __init__(self, name: str) -> None:
        policy, binding = (one for one in yaml.safe_load_all(POLICY.read_text()) if one["metadata"]["name"] == name)
        assert (policy["kind"], binding["kind"]) == (
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        )
        assert binding["spec"] == {"policyName": name, "validationActions": ["Deny"]}
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

    def refusals(
        self, request: dict[str, Any], before: dict[str, Any] | None, after: dict[str, Any] | None
    ) -> list[str]:
        """The messages of what is violated; none where the request is let through."""
        given: dict[str, Any] = {"request": request, "oldObject": before, "object": after, "variables": {}}
        if not all(self._value(one["expression"], given) for one in self.spec["matchConditions"]):
            return []
        for one in self.spec["variables"]:
            given["variables"][one["name"]] = self._value(one["expression"], given)
        return [one["message"] for one in self.spec["validations"] if self._value(one["expression"], given) is not True]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy("pouchrich-node")


@pytest.fixture(scope="module")
def of_pods() -> Policy:
    return Policy("pouchrich-node-pods")


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
        (f"metadata|labels|{labels.of_mode('sbin-init')}", "true"),
        (f"metadata|labels|{labels.of_mode('systemd')}", None),
        (f"metadata|labels|{labels.VERSION}", "0.1.0"),
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
    label = f"metadata|labels|{labels.VERSION}"
    said = policy.refusals(by(node=node), NODE, changed(label, "0.1.0"))
    assert said == ["a pod of this DaemonSet may change its own node only"]


def test_a_node_without_labels_is_no_error(policy: Policy):
    bare = {"metadata": {"name": "worker-1"}, "spec": {}}
    after = {"metadata": {"name": "worker-1", "labels": {labels.VERSION: "0.1.0"}}, "spec": {}}
    assert policy.refusals(by(), bare, after) == []
    assert policy.refusals(by(), after, bare) == []


@pytest.mark.parametrize("user", ["kubelet", "system:serviceaccount:other:pouchrich-node", f"{OURS}2"])
def test_others_are_not_its_business(policy: Policy, user: str):
    assert policy.refusals(by(user), NODE, changed("spec|unschedulable", True)) == []


def made(mode: str = "dumb-init", **changes: Any) -> dict[str, Any]:
    """The probe pod of a mode as the API server has it at that stage, with `changes` of its spec."""
    owner = {"metadata": {"name": "node-x7k2p", "uid": "4711"}}
    pod = probe.manifest("probe", Api(), mode, "image", [{"name": "pull"}], owner)  # type: ignore[arg-type]
    pod["metadata"]["uid"] = "1"
    added = {
        "serviceAccountName": "default",
        "serviceAccount": "default",
        "hostNetwork": False,
        "securityContext": {},
        "priorityClassName": "usual",
        "overhead": {"cpu": "10m"},
    }
    return {**pod, "spec": {**pod["spec"], **added, **changes}}


def creating(of_pods: Policy, pod: dict[str, Any], **who: Any) -> list[str]:
    return of_pods.refusals({**by(**who), "operation": "CREATE"}, None, pod)


def with_container(**more: Any) -> dict[str, Any]:
    """The probe's own container, changed."""
    return {"containers": [{**made()["spec"]["containers"][0], **more}]}


def beside(**more: Any) -> dict[str, Any]:
    """Another container, that is started before it."""
    return {"initContainers": [{"name": "first", "image": "x", **more}]}


@pytest.mark.parametrize("mode", probe.INITS)
def test_it_may_create_and_delete_the_probe_pods_of_its_own_node(of_pods: Policy, mode: str):
    pod = probe.manifest("probe", Api(), mode, "image")  # type: ignore[arg-type]
    assert creating(of_pods, pod) == []
    assert creating(of_pods, made(mode)) == []
    assert of_pods.refusals({**by(), "operation": "DELETE"}, made(mode), None) == []


def test_what_a_webhook_adds_to_each_pod_is_no_reason_to_refuse_it(of_pods: Policy):
    sidecar = {
        "name": "proxy",
        "image": "proxy",
        "ports": [{"containerPort": 15090, "protocol": "TCP"}],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        "securityContext": {
            "privileged": False,
            "runAsUser": 1337,
            "allowPrivilegeEscalation": False,
            "procMount": "Default",
            "capabilities": {"drop": ["ALL"]},
        },
    }
    volumes = [{"name": "shared", "emptyDir": {}}, {"name": "ca", "configMap": {"name": "ca"}}]
    own = made()["spec"]["containers"]
    first = {**sidecar, "name": "first", "restartPolicy": "Always"}
    assert creating(of_pods, made(containers=[*own, sidecar], initContainers=[first], volumes=volumes)) == []


NO_TOKEN = "a pod of this DaemonSet may create pods of the class pouchrich-probe without a token only"
NOTHING_OF_THE_NODE = "a pod of this DaemonSet may create no pod that uses the node's namespaces, files or ports"
NO_PRIVILEGE = "a pod of this DaemonSet may create no privileged container, and add no capabilities"
OWN_NODE = "a pod of this DaemonSet may create and delete pods of its own node only"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodeName": "worker-2"}, OWN_NODE),
        ({"nodeName": ""}, OWN_NODE),
        ({"runtimeClassName": "pouchrich"}, NO_TOKEN),
        ({"runtimeClassName": None}, NO_TOKEN),
        ({"serviceAccountName": "pouchrich-node"}, NO_TOKEN),
        ({"automountServiceAccountToken": True}, NO_TOKEN),
        ({"automountServiceAccountToken": None}, NO_TOKEN),
        ({"hostPID": True}, NOTHING_OF_THE_NODE),
        ({"hostNetwork": True}, NOTHING_OF_THE_NODE),
        ({"hostIPC": True}, NOTHING_OF_THE_NODE),
        ({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]}, NOTHING_OF_THE_NODE),
        (with_container(ports=[{"containerPort": 1}, {"containerPort": 2, "hostPort": 2}]), NOTHING_OF_THE_NODE),
        (beside(ports=[{"containerPort": 2, "hostPort": 2}]), NOTHING_OF_THE_NODE),
        *(
            (changed({"securityContext": security}), NO_PRIVILEGE)
            for changed in (lambda more: with_container(**more), lambda more: beside(**more))
            for security in (
                {"privileged": True},
                {"capabilities": {"add": ["SYS_ADMIN"]}},
                {"procMount": "Unmasked"},
            )
        ),
    ],
)
def test_a_pod_that_may_do_more_is_refused(of_pods: Policy, changes: dict[str, Any], said: str):
    pod = made(**changes)
    pod["spec"] = {name: value for name, value in pod["spec"].items() if value is not None}
    assert creating(of_pods, pod) == [said]


@pytest.mark.parametrize("node", ["worker-2", "", None], ids=["of another", "of none", "not of a pod"])
def test_nor_may_it_touch_pods_of_another_node(of_pods: Policy, node: str | None):
    assert creating(of_pods, made(), node=node) == [OWN_NODE]
    anywhere = made()
    del anywhere["spec"]["nodeName"]
    for pod in (made(), anywhere):
        assert of_pods.refusals({**by(node=node), "operation": "DELETE"}, pod, None) == [OWN_NODE]


def test_pods_of_others_are_not_its_business(of_pods: Policy):
    assert creating(of_pods, made(hostPID=True), user="kubelet") == []
