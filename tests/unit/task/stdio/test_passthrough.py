"""Which containers may write to the client's FIFO itself."""

from pathlib import Path
from typing import Any

import pytest

from shim.task.stdio.passthrough import may_pass_through


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of its own, in which a test may install something."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


PLAIN: dict[str, Any] = {"process": {"args": ["sh"], "capabilities": {"bounding": ["CAP_KILL"]}}}


def with_process(**more: Any) -> dict[str, Any]:
    return {"process": {**PLAIN["process"], **more}}


@pytest.mark.parametrize("spec", [PLAIN, {}, {"process": None}, with_process(capabilities=None, selinuxLabel="")])
def test_an_ordinary_container_may(spec: dict[str, Any]):
    assert may_pass_through(spec)


@pytest.mark.parametrize(
    "more",
    [
        {"selinuxLabel": "system_u:system_r:container_t:s0:c1,c2"},
        {"apparmorProfile": "cri-containerd.apparmor.d"},
        {"capabilities": {"bounding": ["CAP_DAC_READ_SEARCH"]}},
        {"capabilities": {"permitted": ["CAP_KILL", "CAP_DAC_READ_SEARCH"]}},
    ],
)
def test_one_that_is_judged_by_label_or_opens_by_handle_may_not(more: dict[str, Any]):
    assert not may_pass_through(with_process(**more))


def test_none_may_where_criu_could_be_asked_for_a_checkpoint(programs: Path):
    program = programs / "criu"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert not may_pass_through(PLAIN)
