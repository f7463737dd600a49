"""Who shares a pod server."""

import json
from pathlib import Path

import pytest

from shim.contract.group import group_of

GROUP, SANDBOX = "io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"


@pytest.mark.parametrize(
    ("annotations", "group"),
    [
        (None, ""),
        ({}, ""),
        ({"other": "x"}, ""),
        ({SANDBOX: "s1"}, "s1"),
        ({GROUP: "g1"}, "g1"),
        ({SANDBOX: "s1", GROUP: "g1"}, "g1"),
        ({SANDBOX: "s1", GROUP: ""}, "s1"),
    ],
)
def test_containers_of_a_group_or_a_sandbox_share_a_server(
    tmp_path: Path, annotations: dict[str, str] | None, group: str
):
    (tmp_path / "config.json").write_text(json.dumps({"annotations": annotations}))
    assert group_of(str(tmp_path)) == group


@pytest.mark.parametrize("text", [f'{{"{SANDBOX}"', f'["{SANDBOX}"]', f'{{"annotations": ["{SANDBOX}"]}}'])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"^{tmp_path}/config.json: "):
        group_of(str(tmp_path))
