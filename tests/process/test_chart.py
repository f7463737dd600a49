"""deploy/chart: as helm renders it, it is what kustomize makes of deploy/, and each value arrives."""

import json
import os
import re
import shutil
from typing import Any

import pytest

import shim
from hack import chart
from pouchrich.__main__ import _parser
from tests.process import test_deploy
from tests.unit.docs import manifests

POLICIES = {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def text_of(name: str) -> str:
    return (chart.GOLDEN / f"{name}.yaml").read_text()


def rendered(name: str) -> list[dict[str, Any]]:
    """The objects of a file; of the policies the kind alone, as in test_deploy."""
    parts = [part.strip() for part in re.split(r"^---$", text_of(name), flags=re.MULTILINE)[1:]]
    kinds = {part: re.findall(r"^kind: (\w+)$", part, flags=re.MULTILINE)[0] for part in parts}
    of_policy = [{"kind": kind} for kind in kinds.values() if kind in POLICIES]
    others = [part.replace('[""]', '["CORE"]') for part, kind in kinds.items() if kind not in POLICIES]
    return of_policy + manifests.load("\n---\n".join(others))


def without(found: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """All but those of `kinds`, in an order of their own."""
    return sorted((one for one in found if one["kind"] not in kinds), key=lambda one: json.dumps(one, sort_keys=True))


@pytest.fixture
def helm() -> str:
    found = shutil.which(os.environ.get("HELM", "helm"))
    if found is None:
        pytest.skip("no helm")
    return found


@pytest.mark.parametrize("name", chart.CASES)
def test_the_files_are_of_the_chart_as_it_is(name: str):
    """What a test without helm can see. `hack/chart.py --write` makes them anew."""
    assert text_of(name).splitlines()[0] == f"# deploy/chart sha256:{chart.digest()}"


@pytest.mark.parametrize("name", chart.CASES)
def test_helm_renders_them(helm: str, name: str):
    assert text_of(name) == chart.golden(helm, name)


def test_it_is_of_this_version():
    lines = (chart.CHART / "Chart.yaml").read_text().splitlines()
    assert {f"version: {shim.__version__}", f"appVersion: {shim.__version__}"} <= set(lines)


@pytest.mark.parametrize(("name", "directory"), [("kubeadm", "overlays/kubeadm"), ("uninstall", "uninstall")])
def test_its_defaults_are_what_kustomize_makes(name: str, directory: str):
    """But for the namespace, which helm does not make, and the policy, which kustomize's `uninstall` leaves alone."""
    of_chart = without(rendered(name), *POLICIES)
    assert of_chart == without(test_deploy.rendered(directory), "Namespace", *POLICIES)


@pytest.mark.parametrize("name", ["kubeadm", "uninstall"])
def test_the_policy_is_that_of_kustomize(name: str):
    assert {one["kind"] for one in rendered(name)} >= POLICIES
    policy = (test_deploy.DEPLOY / "components/own-node-only/policy.yaml").read_text()
    assert all(part.strip() in text_of(name) for part in policy.split("---\n"))


def test_while_nodes_are_given_back_no_new_pod_goes_there():
    test_deploy.no_pods_are_taken(rendered("uninstall"))


def test_the_pods_give_back_what_they_have_installed_by_the_same_words():
    args = {name: test_deploy.container(rendered(name))["args"] for name in ("kubeadm", "uninstall")}
    installed = [one.replace("=kubeadm", "=auto") for one in args["kubeadm"]]
    assert args["uninstall"] == ["node", "uninstall", *installed[2:], "--wait=604800"]
    _parser(args["uninstall"]).parse_args(args["uninstall"])


def test_every_value_arrives():
    found = rendered("every-value")
    assert not {one["kind"] for one in found} & POLICIES
    (daemons,) = test_deploy.of_kind(found, "DaemonSet")
    spec, one = daemons["spec"]["template"]["spec"], test_deploy.container(found)
    assert (one["image"], one["imagePullPolicy"]) == ("registry.example/node:7", "Always")
    assert spec["imagePullSecrets"] == [{"name": "pull"}]
    parsed = _parser(one["args"]).parse_args(one["args"])
    assert (parsed.containerd, parsed.address) == ("k3s", "/run/k3s/containerd/containerd.sock")
    assert (parsed.prefix, parsed.bin, parsed.restart) == ("/var/lib/node", "/usr/bin", "systemctl restart k3s")
    assert parsed.probe == [("dumb-init", ""), ("systemd", "registry.example/systemd")]
    assert (parsed.root, parsed.node, parsed.stay, parsed.unattended) == ("/host", "$(NODE_NAME)", True, True)
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": "10.0.0.1"} in one["env"]
    assert daemons["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "10%"}
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64"}
    assert "priorityClassName" not in spec
    overheads = {one["metadata"]["name"]: one.get("overhead") for one in test_deploy.of_kind(found, "RuntimeClass")}
    assert overheads == {
        "pouchrich": {"podFixed": {"cpu": "1m", "memory": "1Mi"}},
        "pouchrich-systemd": {"podFixed": {"cpu": "2m", "memory": "2Mi"}},
        "pouchrich-probe": None,
    }


@pytest.mark.parametrize(
    ("values", "kubernetes", "said"),
    [
        ("containerd: docker", "1.36.0", "containerd"),
        ("mode: systemd", "1.36.0", "mode"),
        ("probes: [openrc]", "1.36.0", "probes"),
        ("{}", "1.31.9", "ownNodeOnly needs Kubernetes 1.32, found v1.31.9; --set ownNodeOnly=false leaves it out"),
    ],
)
def test_a_value_that_cannot_be_is_refused(helm: str, values: str, kubernetes: str, said: str):
    done = chart.render(helm, values, kubernetes=kubernetes)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
