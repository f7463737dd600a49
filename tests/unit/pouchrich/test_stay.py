"""pouchrich.cluster.rollout --stay: a pod that is ready as long as its node is, and that ends when it is told to."""

import argparse
import os
import signal
import time
from pathlib import Path

import pytest

from pouchrich.cluster import rollout

INSTALLED = argparse.Namespace(what="install", root="/host", prefix=None)


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says so."""
    path = tmp_path / "ready"
    monkeypatch.setattr(rollout, "READY", str(path))
    return path


def test_it_is_ready_until_its_node_is_not(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """A look alone says nothing: containerd may just be started anew, by an upgrade say."""
    looks, seen = [True, False, True, True, *[False] * rollout._MISSES], []

    def status(arguments: argparse.Namespace, *, quiet: bool) -> int:
        seen.append((ready.exists(), quiet))
        return 0 if looks and looks.pop(0) else 1

    monkeypatch.setattr(rollout, "_status", status)
    assert rollout._stay(INSTALLED, look_s=0.0, again_s=0.0) == 1
    assert seen == [(True, True)] * (4 + rollout._MISSES) + [(False, False)]  # at last it prints what is so
    assert not ready.exists()
    assert "the node no longer has the installation; this program ends, to be run again" in capfd.readouterr().out


def test_looks_are_minutes_apart_and_no_two_nodes_alike(ready: Path, monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    monkeypatch.setattr(rollout.time, "sleep", pauses.append)
    looks = [True] * 50 + [False] * rollout._MISSES
    monkeypatch.setattr(rollout, "_status", lambda arguments, quiet: 0 if looks and looks.pop(0) else 1)
    assert rollout._stay(INSTALLED) == 1
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
            rollout._stay(argparse.Namespace(what=what))
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
    monkeypatch.setattr(rollout, "_status", lambda arguments, quiet: pytest.fail("looked"))
    with pytest.raises(KeyboardInterrupt):
        rollout._stay(argparse.Namespace(what="uninstall"), look_s=0.0, again_s=0.0)
