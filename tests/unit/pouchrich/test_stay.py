"""pouchrich.cluster.rollout --stay: a pod that is ready as long as its node is, and that ends when it is told to."""

import argparse
import os
import signal
import time
from pathlib import Path

import pytest

from pouchrich.cluster import labels, rollout
from pouchrich.node import InstallError
from tests.unit.pouchrich.test_rollout import Api

INSTALLED = argparse.Namespace(what="install", root="/host", prefix=None, probe=[("dumb-init", ""), ("systemd", "x")])
LABELS = {"pouchrich.io/version": "0.1.0", **dict.fromkeys(map(labels.of_mode, ("dumb-init", "systemd")), "true")}
OTHERS = {"kubernetes.io/hostname": "worker-1"}


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says so."""
    path = tmp_path / "ready"
    monkeypatch.setattr(rollout, "READY", str(path))
    return path


def ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run on the node when it ends."""
    monkeypatch.setattr(rollout.install, "root", lambda: "/pouchrich")
    monkeypatch.setattr(rollout.host, "run", lambda root, artefact, words: 1)


def test_it_is_ready_until_its_node_is_not(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """A look alone says nothing: containerd may just be started anew, by an upgrade say."""
    looks, seen = [True, False, True, True, *[False] * rollout._MISSES], []

    def read(root: str, artefact: str, words: list[str]) -> tuple[int, str]:
        seen.append((ready.exists(), words))
        return (0, '{"current": "0.1.0"}\n') if looks.pop(0) else (1, '{"current": ""}\n')

    monkeypatch.setattr(rollout.install, "root", lambda: "/pouchrich")
    monkeypatch.setattr(rollout.host, "read", read)
    monkeypatch.setattr(rollout.host, "run", lambda root, artefact, words: seen.append((ready.exists(), words)) or 1)
    assert rollout._stay(INSTALLED, Api(), look_s=0.0, again_s=0.0) == 1
    last = (False, ["node", "status"])  # it prints what is so
    assert seen == [(True, ["node", "status", "--json"])] * (4 + rollout._MISSES) + [last]
    assert not ready.exists()
    assert "the node no longer has the installation; this program ends, to be run again" in capfd.readouterr().out


def test_looks_are_minutes_apart_and_no_two_nodes_alike(ready: Path, monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    monkeypatch.setattr(rollout.time, "sleep", pauses.append)
    looks = [True] * 50 + [False] * rollout._MISSES
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: "0.1.0" if looks.pop(0) else "")
    ends(monkeypatch)
    assert rollout._stay(INSTALLED, Api()) == 1
    apart, again = pauses[: 1 - rollout._MISSES], pauses[1 - rollout._MISSES :]
    assert all(120 <= one <= 600 for one in apart)
    assert len(set(apart)) > 10
    assert max(again) < min(apart)
    assert sum(again) >= 500, "a containerd of k3s may take as long to be started anew"


@pytest.mark.parametrize("what", ["install", "uninstall"])
def test_told_to_end_it_does_at_once(ready: Path, what: str):
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, rollout._end)
            rollout._stay(argparse.Namespace(what=what), Api())
        except SystemExit as err:
            os._exit(3 if err.code == 0 else 4)
        finally:
            os._exit(5)
    while not ready.exists():
        time.sleep(0.01)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_what_gives_a_node_back_stays_without_a_look(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def pause() -> None:
        assert ready.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout.signal, "pause", pause)
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: pytest.fail("looked"))
    with pytest.raises(KeyboardInterrupt):
        rollout._stay(argparse.Namespace(what="uninstall"), Api(), look_s=0.0, again_s=0.0)


class Registered(Api):
    """A node whose object is another at each look, in turn one with the labels of `found`; None: no answer."""

    def __init__(self, found: list[dict[str, str] | None], held: str = "") -> None:
        super().__init__()
        self._found = found
        self._held = held

    def labels(self) -> dict[str, str]:
        found = self._found.pop(0)
        if found is None:
            raise InstallError("kubectl get node: connection refused")
        return found

    def annotations(self) -> dict[str, str]:
        return {rollout.hold.ANNOTATION: self._held} if self._held else {}


def looked(monkeypatch: pytest.MonkeyPatch, api: Registered, looks: int) -> None:
    """Have the node be there at so many looks, and no longer."""
    there = ["0.1.0"] * looks + [""] * rollout._MISSES
    monkeypatch.setattr(rollout, "_ready_version", lambda arguments: there.pop(0))
    ends(monkeypatch)
    assert rollout._stay(INSTALLED, api, look_s=0.0, again_s=0.0) == 1


def test_labels_that_the_node_has_lost_are_set_again(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """As where its object was deleted, and made anew by its kubelet before its pods were missed."""
    some = {**OTHERS, **LABELS}
    del some[labels.of_mode("systemd")]
    api = Registered([{**OTHERS, **LABELS}, OTHERS, some, {**OTHERS, **LABELS}])
    looked(monkeypatch, api, 4)
    assert api.labelled == [LABELS, {labels.of_mode("systemd"): "true"}]
    said = capfd.readouterr().out
    assert "the node had lost labels, set them again: pouchrich.io/mode.systemd\n" in said


def test_a_value_that_somebody_else_gave_one_stays(ready: Path, monkeypatch: pytest.MonkeyPatch):
    api = Registered([{**LABELS, labels.of_mode("systemd"): "no"}])
    looked(monkeypatch, api, 1)
    assert api.labelled == []


def test_a_node_that_is_held_keeps_the_labels_that_it_has(ready: Path, monkeypatch: pytest.MonkeyPatch):
    api = Registered([OTHERS, OTHERS], held="until Monday")
    looked(monkeypatch, api, 2)
    assert api.labelled == []


def test_an_api_server_that_does_not_answer_is_told_once_and_is_no_reason_to_end(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    api = Registered([None, None, None, OTHERS, None])
    looked(monkeypatch, api, 5)
    assert api.labelled == [LABELS]
    assert capfd.readouterr().out.count("could not look at the node's labels, and will try again: kubectl get") == 2
