"""pouchrich.cluster.rollout: what a node's labels say when its installation has failed."""

import argparse

import pytest

from pouchrich.cluster import rollout


class Api:
    def __init__(self) -> None:
        self.labels: list[dict[str, str | None]] = []

    def label(self, labels: dict[str, str | None]) -> None:
        self.labels.append(labels)


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_node_whose_installation_failed_is_labelled_only_where_another_runs_there(
    monkeypatch: pytest.MonkeyPatch, is_ready: bool
):
    """As a node that was made anew under its old name, which keeps its labels."""
    monkeypatch.setattr(rollout, "_act", lambda arguments: 1)
    monkeypatch.setattr(rollout, "_is_ready", lambda arguments: is_ready)
    api = Api()
    assert rollout._install(argparse.Namespace(), api) == 1
    gone = {f"pouchrich.io/{name}" for name in ("version", "mode.dumb-init", "mode.systemd", "mode.sbin-init")}
    assert [set(one) for one in api.labels] == ([] if is_ready else [gone])
    assert {value for one in api.labels for value in one.values()} <= {None}
