"""pouchrich.cluster.rollout: a node's labels after an installation that failed, and after what its probes came to."""

import argparse
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pouchrich.cluster import labels, probe, rollout
from pouchrich.node import InstallError
from pouchrich.node.layout import PROGRAMS

MODES = ("dumb-init", "systemd", "sbin-init")
LABELS = {f"pouchrich.io/{name}" for name in ("version", "mode.dumb-init", "mode.systemd", "mode.sbin-init")}


class Api:
    """The labels that a node is given, and what the kubelet makes of each probe pod: in turn one of `ends`, by mode."""

    node, namespace = "worker-1", "pouchrich"

    def __init__(self, **ends: list[dict[str, Any] | str]) -> None:
        self.labelled: list[dict[str, str | None]] = []
        self.of_node: dict[str, str] = dict.fromkeys(LABELS, "true")
        self.made: list[dict[str, Any]] = []
        self.others: dict[str, dict[str, Any]] = {}
        self._ends = {mode.replace("_", "-"): list(found) for mode, found in ends.items()}

    def annotations(self) -> dict[str, str]:
        return {}

    def labels(self) -> dict[str, str]:
        return dict(self.of_node)

    def label(self, changes: dict[str, str | None]) -> None:
        self.labelled.append(changes)
        for name, value in changes.items():
            self.of_node.pop(name, None)
            if value is not None:
                self.of_node[name] = value

    def create(self, pod: dict[str, Any]) -> None:
        self.made.append(pod)

    def delete(self, name: str) -> None:
        pass

    def pod(self, name: str) -> dict[str, Any]:
        if name in self.others:
            return self.others[name]
        end = self._ends[self.made[-1]["metadata"]["annotations"]["pouchrich.io/mode.probe"]].pop(0)
        if isinstance(end, str):
            raise InstallError(end)
        return end

    def modes(self) -> set[str]:
        """Those that the node is labelled for."""
        return {name.removeprefix("pouchrich.io/mode.") for name in self.of_node if "mode." in name}


def ran(init: str) -> dict[str, Any]:
    one = {"name": "probe", "state": {"terminated": {"exitCode": 7, "message": init, "reason": "Error"}}}
    return {"status": {"phase": "Failed", "containerStatuses": [one]}}


def rejected(reason: str) -> dict[str, Any]:
    return {"status": {"phase": "Failed", "reason": reason, "message": "Pod was rejected"}}


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "_act", lambda arguments: 0)
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: "0.1.0")


def asked(*modes: str) -> argparse.Namespace:
    return argparse.Namespace(probe=[(mode, "image") for mode in modes])


def never() -> None:
    raise AssertionError("all was judged")


def test_a_node_whose_installation_failed_has_no_labels_where_no_other_runs_there(monkeypatch: pytest.MonkeyPatch):
    """As a node that was made anew under its old name, which keeps its labels."""
    monkeypatch.setattr(rollout, "_act", lambda arguments: 1)
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: "")
    monkeypatch.setattr(rollout, "_serves", lambda root: False)
    api = Api()
    assert rollout._install(argparse.Namespace(root="", probe=[]), api) == 1
    assert api.labelled == [dict.fromkeys(LABELS)]


@pytest.fixture
def _rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, to 0.0.9+a: the version that the DaemonSet has is refused."""
    monkeypatch.setattr(rollout, "_act", lambda arguments: 1)
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: "0.0.9+a")


@pytest.mark.usefixtures("_rolled_back")
def test_a_node_that_keeps_another_version_is_labelled_for_it_and_for_the_modes_that_it_lacks():
    api = Api(systemd=[rejected("Evicted"), ran("systemd")])
    api.of_node = {"pouchrich.io/version": "0.1.0", "pouchrich.io/mode.dumb-init": "true"}
    assert rollout._install(asked("dumb-init", "systemd"), api, lambda: None) == 1
    assert api.of_node == {"pouchrich.io/version": "0.0.9_a", **dict.fromkeys(map(labels.of_mode, MODES[:2]), "true")}
    assert len(api.made) == 2  # dumb-init has its label already


@pytest.mark.usefixtures("_rolled_back")
@pytest.mark.parametrize("ends", [[ran("sh")] * 2, ["kubectl create: quota exceeded"] * 100])
def test_nor_does_it_get_that_of_a_mode_that_does_not_run_there(ends: list[Any], capsys: pytest.CaptureFixture[str]):
    api = Api(systemd=ends)
    api.of_node.pop(labels.of_mode("systemd"))
    assert rollout._install(asked("systemd"), api, lambda: None) == 1
    assert api.modes() == {"dumb-init", "sbin-init"}
    said = capsys.readouterr().out
    assert ("mode systemd fails" in said) or "0.0.9+a, which the node keeps: modes that could not be judged" in said


@pytest.mark.usefixtures("_rolled_back")
def test_an_api_that_does_not_answer_then_changes_nothing_of_the_exit_status(capsys: pytest.CaptureFixture[str]):
    class Dead(Api):
        def label(self, changes: dict[str, str | None]) -> None:
            raise InstallError("kubectl label: no answer")

    assert rollout._install(asked("systemd"), Dead(), never) == 1
    assert "version 0.0.9+a, which the node keeps: kubectl label: no answer" in capsys.readouterr().out


def test_nor_does_it_lose_its_labels_where_pods_still_run(monkeypatch: pytest.MonkeyPatch):
    """As a node whose containerd was told of nothing any more by somebody else: its rich pods run on."""
    monkeypatch.setattr(rollout, "_act", lambda arguments: 1)
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: "")
    monkeypatch.setattr(rollout, "_serves", lambda root: True)
    api = Api()
    assert rollout._install(argparse.Namespace(root="", probe=[]), api) == 1
    assert api.labelled == []


def test_a_pod_server_of_the_nodes_is_known_by_its_name_and_root(tmp_path: Path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([PROGRAMS[0]], executable="/bin/cat", **pipes) as server:
        try:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(b"x")
            server.stdin.flush()
            assert server.stdout.read(1) == b"x"  # it is executed, and has its name
            assert rollout._serves("/")
            assert not rollout._serves(str(tmp_path))  # it is a container's
        finally:
            server.kill()


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("end", [rejected("OutOfpods"), rejected("NodeAffinity"), "kubectl create: quota exceeded"])
def test_a_mode_that_is_not_judged_keeps_its_label_and_is_tried_again(end: Any, capsys: pytest.CaptureFixture[str]):
    api, pauses = Api(dumb_init=[ran("dumb-init")], systemd=[end, end, ran("systemd")]), []

    def pause() -> None:
        pauses.append(api.modes())

    assert rollout._install(asked("systemd", "dumb-init"), api, pause) == 0
    assert pauses == [{"dumb-init", "systemd"}] * 2
    assert not [one for one in api.labelled if one.get(labels.of_mode("systemd"), "") is None]
    assert len(api.made) == 4  # the one that was judged is not run again
    assert "mode systemd could not be judged, its label stays as it is: " in capsys.readouterr().out


@pytest.mark.usefixtures("_installed")
def test_a_mode_that_is_not_judged_gets_no_label_by_that():
    api = Api(systemd=[rejected("Evicted"), ran("systemd")])
    api.of_node.clear()
    seen = []
    assert rollout._install(asked("systemd"), api, lambda: seen.append(api.modes())) == 0
    assert (seen, api.modes()) == ([set()], {"systemd"})


@pytest.mark.usefixtures("_installed")
def test_a_mode_that_fails_loses_its_label_when_it_does_and_the_node_is_not_ready():
    """Not by a single probe: a node that has just booted may be too busy for one."""
    api, seen = Api(dumb_init=[rejected("OutOfcpu")] * 2 + [ran("dumb-init")], systemd=[ran("sh")] * 2), []
    with pytest.raises(InstallError, match=r"the probe pod of mode systemd did not run: .*sh$"):
        rollout._install(asked("systemd", "dumb-init"), api, lambda: seen.append(api.modes()))
    assert (seen, api.modes()) == ([{"dumb-init", "systemd"}, {"dumb-init"}], {"dumb-init"})
    api = Api(systemd=[ran("sh"), ran("systemd")])
    assert rollout._install(asked("systemd"), api, lambda: None) == 0
    assert api.modes() == {"systemd"}


@pytest.mark.usefixtures("_installed")
def test_a_mode_that_comes_to_nothing_ends_it_in_the_end_and_so_does_a_node_that_has_lost_the_shim(monkeypatch):
    api = Api(systemd=[rejected("OutOfcpu")] * 100)
    with pytest.raises(InstallError, match="could not be judged: systemd; their labels stay as they are"):
        rollout._install(asked("systemd"), api, lambda: None)
    assert len(api.made) == rollout._ROUNDS
    assert "systemd" in api.modes()
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: "")
    monkeypatch.setattr(rollout, "_AGAIN_S", 0.0)
    api = Api(systemd=[rejected("OutOfcpu")] * 100)
    with pytest.raises(InstallError, match="could not be judged: systemd"):
        rollout._install(asked("systemd"), api, lambda: None)
    assert len(api.made) == 1


@pytest.mark.usefixtures("_installed")
def test_a_mode_that_is_asked_for_no_more_loses_its_label():
    api = Api(dumb_init=[ran("dumb-init")])
    assert rollout._install(asked("dumb-init"), api, never) == 0
    assert api.modes() == {"dumb-init"}
    assert set(api.of_node) == {"pouchrich.io/version", "pouchrich.io/mode.dumb-init"}


def test_a_refusal_by_the_runtime_that_stays_is_a_failure_and_one_that_passes_is_none(monkeypatch: pytest.MonkeyPatch):
    state = {"waiting": {"reason": "RunContainerError", "message": "failed to create containerd task: no init"}}
    refused = {"status": {"phase": "Pending", "containerStatuses": [{"name": "probe", "state": state}]}}
    monkeypatch.setattr(probe, "_POLL_S", 0.0)
    probe.run(Api(systemd=[refused, refused, ran("systemd")]), "systemd", "image")
    monkeypatch.setattr(probe, "PATIENCE_S", 0.0)
    with pytest.raises(probe.Fails, match="Pending: RunContainerError: failed to create containerd task: no init"):
        probe.run(Api(systemd=[refused, refused]), "systemd", "image")


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("secrets", [[{"name": "pull"}, {"name": "other"}], None])
def test_a_probe_pulls_its_image_as_the_daemonset_does_and_may_no_more(
    monkeypatch: pytest.MonkeyPatch, secrets: list[dict[str, str]] | None
):
    spec: dict[str, Any] = {
        "containers": [{"image": "registry.example/node:1"}],
        "serviceAccountName": "pouchrich-node",
    }
    if secrets:
        spec["imagePullSecrets"] = secrets
    api = Api(dumb_init=[ran("dumb-init")], systemd=[ran("systemd")])
    api.others["node-x7k2p"] = {"metadata": {"name": "node-x7k2p", "uid": "4711"}, "spec": spec}
    monkeypatch.setenv("POD_NAME", "node-x7k2p")
    probes = [("dumb-init", ""), ("systemd", "registry.example/systemd")]
    assert rollout._install(argparse.Namespace(probe=probes), api, never) == 0
    assert [one["spec"]["containers"][0]["image"] for one in api.made] == [
        "registry.example/node:1",
        "registry.example/systemd",
    ]
    assert [one["spec"].get("imagePullSecrets") for one in api.made] == [secrets] * 2
    assert [one["spec"]["automountServiceAccountToken"] for one in api.made] == [False] * 2
    assert not [one for one in api.made if "serviceAccountName" in one["spec"]]


@pytest.mark.usefixtures("_installed")
def test_a_probe_is_controlled_by_the_daemonsets_pod_or_drain_would_refuse_its_node(monkeypatch: pytest.MonkeyPatch):
    """And the garbage collector would leave it behind, where this program was killed and never runs again."""
    api = Api(dumb_init=[ran("dumb-init")] * 2)
    api.others["node-x7k2p"] = {
        "metadata": {"name": "node-x7k2p", "uid": "4711"},
        "spec": {"containers": [{"image": "image"}]},
    }
    for name in ("node-x7k2p", ""):
        monkeypatch.setenv("POD_NAME", name)
        assert rollout._install(asked("dumb-init"), api, never) == 0
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "node-x7k2p", "uid": "4711", "controller": True}
    assert [one["metadata"].get("ownerReferences") for one in api.made] == [[owner], None]


@pytest.mark.usefixtures("_installed")
def test_a_probe_of_no_image_outside_of_a_pod_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("POD_NAME", raising=False)
    with pytest.raises(InstallError, match="--probe MODE: found no POD_NAME in the environment: give the image too"):
        rollout._install(argparse.Namespace(probe=[("dumb-init", "")]), Api(), never)


@pytest.mark.parametrize("status", [0, 1])
def test_a_node_that_is_given_back_keeps_its_labels_until_it_is(monkeypatch: pytest.MonkeyPatch, status: int):
    """Its rich pods run meanwhile, and have the labels in their node selectors."""
    api, seen = Api(), []
    monkeypatch.setattr(rollout, "Kubectl", lambda node, namespace: api)
    monkeypatch.setattr(rollout.hold, "reason", lambda annotations, path: "")
    monkeypatch.setattr(rollout, "_act", lambda arguments: seen.append(set(api.of_node)) or status)
    arguments = argparse.Namespace(node=api.node, root="/host", what="uninstall", stay=False)
    assert rollout.run(arguments) == status
    assert seen == [LABELS]
    assert set(api.of_node) == (set() if status == 0 else LABELS)
