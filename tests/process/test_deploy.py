"""deploy/: that its manifests are whole, ask for no more than is needed, and say what the code says."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import shim
from pouchrich.__main__ import _parser
from pouchrich.cluster import hold, labels, place, probe, rollout
from tests.unit.docs import manifests

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = ("kubeadm", "k3s", "rke2", "k0s")
NAME = "pouchrich-node"


def rendered(directory: str) -> list[dict[str, Any]]:
    """What kustomize makes of a directory, as kubectl brings it."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl")
    words = [kubectl, "kustomize", DEPLOY / directory]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    if "unknown field" in done.stderr or "invalid Kustomization" in done.stderr:
        pytest.skip("this kubectl's kustomize is from before 2020")
    assert done.returncode == 0, done.stderr
    parts = done.stdout.replace('- ""', "- CORE").split("\n---\n")
    policies = [part for part in parts if "kind: ValidatingAdmissionPolicy" in part]  # more of YAML than `load` knows
    kinds = [
        line.removeprefix("kind: ") for part in policies for line in part.splitlines() if line.startswith("kind: ")
    ]
    return [{"kind": kind} for kind in kinds] + manifests.load(
        "\n---\n".join(part for part in parts if part not in policies)
    )


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in found if one["kind"] == kind]


def container(found: list[dict[str, Any]]) -> dict[str, Any]:
    (daemons,) = of_kind(found, "DaemonSet")
    (one,) = daemons["spec"]["template"]["spec"]["containers"]
    assert isinstance(one, dict)
    return one


@pytest.mark.parametrize(
    "path",
    sorted(path for path in DEPLOY.rglob("*.yaml") if not path.is_relative_to(DEPLOY / "chart")),
    ids=lambda path: str(path.relative_to(DEPLOY)),
)
def test_every_file_is_named_by_a_kustomization(path: Path):
    if path.name == "kustomization.yaml":
        return
    assert path.name in (path.parent / "kustomization.yaml").read_text()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_says_which_containerd_it_is_and_is_limited_to_its_own_node(overlay: str):
    found = rendered(f"overlays/{overlay}")
    one = container(found)
    assert f"--containerd={overlay}" in one["args"]
    assert one["image"] == f"localhost/{NAME}:{shim.__version__}"
    assert len(of_kind(found, "ValidatingAdmissionPolicy")) == 2
    assert len(of_kind(found, "ValidatingAdmissionPolicyBinding")) == 2


@pytest.mark.parametrize("directory", ["base", *(f"overlays/{one}" for one in OVERLAYS), "uninstall"])
def test_the_command_line_is_one(directory: str):
    args = container(rendered(directory))["args"]
    parsed = _parser(args).parse_args(args)
    assert (parsed.root, parsed.node, parsed.stay) == ("/host", "$(NODE_NAME)", True)
    if directory != "uninstall":
        assert parsed.unattended
        assert {mode for mode, _ in parsed.probe} == {"dumb-init", "sbin-init"}
    else:
        assert (parsed.what, parsed.wait > 3600) == ("uninstall", True)


OWN = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
  - {deploy}/base
components:
  - {deploy}/components/own-node-only
  - {deploy}/components/uninstall
images:
  - name: pouchrich-node
    newName: registry.example/node
    newTag: "7"
patches:
  - target: {{kind: DaemonSet, name: pouchrich-node}}
    patch: |-
      - {{op: replace, path: /spec/template/spec/containers/0/args/3, value: --containerd=k3s}}
      - {{op: add, path: /spec/template/spec/containers/0/args/-, value: --prefix=/var/lib/node}}
      - {{op: add, path: /spec/template/spec/containers/0/args/-, value: --bin=/usr/bin}}
      - {{op: add, path: /spec/template/spec/containers/0/args/-, value: --address=/run/c.sock}}
      - {{op: add, path: /spec/template/spec/containers/0/args/-, value: --restart=systemctl restart k3s}}
"""


def test_an_overlay_of_the_operators_gives_back_what_it_has_installed(tmp_path: Path):
    """One component more, and nothing of what the overlay says is lost; it deletes all that it has made."""
    overlay = OWN.format(deploy=os.path.relpath(DEPLOY, tmp_path.resolve()))
    uninstalling = tmp_path / "kustomization.yaml"
    uninstalling.write_text(overlay)
    found = rendered(str(tmp_path))
    no_pods_are_taken(found)
    assert len(of_kind(found, "ValidatingAdmissionPolicy")) == 2
    one = container(found)
    assert one["image"] == "registry.example/node:7"
    parsed = _parser(one["args"]).parse_args(one["args"])
    assert (parsed.what, parsed.wait, parsed.force) == ("uninstall", 604800, False)
    assert (parsed.prefix, parsed.bin, parsed.restart) == ("/var/lib/node", "/usr/bin", "systemctl restart k3s")
    assert (parsed.containerd, parsed.address) == ("k3s", "/run/c.sock")
    (daemons,) = of_kind(found, "DaemonSet")
    assert daemons["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "100%"}
    uninstalling.write_text("".join(line for line in overlay.splitlines(True) if "components/uninstall" not in line))
    installed = container(rendered(str(tmp_path)))["args"]
    assert [*installed[:1], "uninstall", *installed[2:]] == [one for one in one["args"] if one != "--wait=604800"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_deletes_all_that_uninstalling_leaves(overlay: str):
    def named(directory: str) -> set[tuple[str, str]]:
        return {(one["kind"], one.get("metadata", {}).get("name", "")) for one in rendered(directory)}

    assert named("uninstall") <= named(f"overlays/{overlay}")


def test_the_daemonset_may_what_it_needs_and_no_more():
    found = rendered("base")
    rules = {one["kind"]: one["rules"] for one in found if "rules" in one}
    assert rules == {
        "ClusterRole": [{"apiGroups": ["CORE"], "resources": ["nodes"], "verbs": ["get", "patch"]}],
        "Role": [
            {"apiGroups": ["CORE"], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "watch"]},
        ],
    }
    subjects = [one["subjects"] for one in found if "subjects" in one]
    assert subjects == [[{"kind": "ServiceAccount", "name": NAME, "namespace": "pouchrich"}]] * 2
    policy = (DEPLOY / "components/own-node-only/policy.yaml").read_text()
    assert policy.count(f"'system:serviceaccount:pouchrich:{NAME}'") == 2
    assert f"'{probe.RUNTIME_CLASS}'" in policy
    assert labels.VERSION.startswith("pouchrich.io/")
    assert hold.ANNOTATION in (DEPLOY / "base/rbac.yaml").read_text()


def test_the_pod_sees_the_node_and_says_when_it_is_done():
    found = rendered("base")
    spec = of_kind(found, "DaemonSet")[0]["spec"]["template"]["spec"]
    one = container(found)
    assert (spec["hostPID"], spec["hostNetwork"], one["securityContext"]["privileged"]) == (True, True, True)
    assert one["readinessProbe"]["exec"]["command"] == ["test", "-e", rollout.READY]
    (mount,) = one["volumeMounts"]
    assert (mount["mountPath"], mount["mountPropagation"]) == ("/host", "HostToContainer")
    assert spec["volumes"] == [{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}]
    assert {each["name"] for each in one["env"]} == {"NODE_NAME", "POD_NAME", "POD_NAMESPACE"}


def test_the_classes_are_of_the_one_handler_and_go_where_a_probe_was():
    classes = {one["metadata"]["name"]: one for one in of_kind(rendered("base"), "RuntimeClass")}
    assert {one["handler"] for one in classes.values()} == {place.HANDLER}
    assert classes.keys() == {"pouchrich", "pouchrich-systemd", probe.RUNTIME_CLASS}
    assert "scheduling" not in classes[probe.RUNTIME_CLASS]
    for name, mode in (("pouchrich", "dumb-init"), ("pouchrich-systemd", "systemd")):
        assert classes[name]["scheduling"]["nodeSelector"] == {labels.of_mode(mode): "true"}
        assert classes[name]["overhead"]["podFixed"].keys() == {"cpu", "memory"}


def no_pods_are_taken(found: list[dict[str, Any]]) -> None:
    """Whether new pods of the classes wait for a node that is labelled as none is by this program."""
    classes = {one["metadata"]["name"]: one for one in of_kind(found, "RuntimeClass")}
    ours = {labels.VERSION, *map(labels.of_mode, probe.INITS)}
    for name in ("pouchrich", "pouchrich-systemd"):
        ((label, value),) = classes[name]["scheduling"]["nodeSelector"].items()
        assert (label, value) == ("pouchrich.io/no-node", "true")
        assert label not in ours
        assert classes[name]["handler"] == place.HANDLER  # which is immutable


def test_while_nodes_are_given_back_no_new_pod_goes_there():
    no_pods_are_taken(rendered("uninstall"))
