"""OCI hooks that containerd writes into a spec, as CDI does for GPUs, and nerdctl for its networks."""

import json
from pathlib import Path

import pytest

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import Pods

pytestmark = pytest.mark.only(containerd=("2.1", "2.3", "2.4"))

CDI = Path("/run/cdi")
"""One of the directories in which containerd 2.0 and later looks for CDI specs. /run is the test run's own."""

KIND = "pouchrich.test/hooks"
HOOK = """#!/bin/sh
# STAGE: add the stage, the state from stdin and the root filesystem found by the bundle's config.json to a file
state=$(cat)
bundle=$(echo "$state" | sed 's/.*"bundle" *: *"\\([^"]*\\)".*/\\1/')
root=$(sed 's/.*"root" *: *{[^}]*"path" *: *"\\([^"]*\\)".*/\\1/' "$bundle/config.json")
case $root in /*) ;; *) root=$bundle/$root ;; esac
test -e "$root/bin/busybox" && found=true || found=false
echo "{\\"stage\\": \\"$1\\", \\"root\\": $found, \\"state\\": $state}" >>FILE
[ "$1" != "$2" ] || { echo "told to fail at $1" >&2; exit 1; }
"""
ON_HOST = ("createRuntime", "createContainer", "poststart", "poststop")
INSIDE = {"hookName": "startContainer", "path": "/bin/sh", "args": ["sh", "-c", "cat >/state"]}
"""The one stage whose program is of the container's root filesystem (runtime-spec, config.md, POSIX-platform Hooks)."""


def device(pods: Pods, fails: str = "") -> tuple[pb.ContainerConfig, Path]:
    """The container configuration of a device with a hook for each stage, and the file with a line for each run."""
    lines, program = Path(pods.node.base, "oci-hooks"), Path(pods.node.base, "oci-hook")
    lines.write_text("")
    program.write_text(HOOK.replace("FILE", str(lines)))
    program.chmod(0o755)
    hooks = [{"hookName": stage, "path": str(program), "args": ["hook", stage, fails]} for stage in ON_HOST]
    CDI.mkdir(exist_ok=True)
    edits = {"hooks": [*hooks, INSIDE]}
    spec = {"cdiVersion": "0.6.0", "kind": KIND, "devices": [{"name": "all", "containerEdits": edits}]}
    (CDI / "hooks.json").write_text(json.dumps(spec))
    return pb.ContainerConfig(annotations={"cdi.k8s.io/hooks": f"{KIND}=all"}), lines


def test_each_stage_runs_once_and_finds_the_root_filesystem(pods: Pods) -> None:
    config, lines = device(pods)
    container = pods.run().run("sh", "-c", "test -s /state && exit 3", config=config)
    assert container.wait().exit_code == 3
    container.remove()
    runs = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [run["stage"] for run in runs] == list(ON_HOST)
    assert {run["state"]["id"] for run in runs} == {container.id}
    assert {run["state"]["annotations"]["io.kubernetes.cri.container-name"] for run in runs} == {"app"}
    assert [run["root"] for run in runs[:3]] == [True, True, True]


def test_a_hook_that_fails_is_named_and_the_container_does_not_start(pods: Pods) -> None:
    config, lines = device(pods, fails="createRuntime")
    container = pods.run().create("sleep", "1000", config=config)
    with pytest.raises(CallFailed, match="hook"):
        container.start()
    container.remove()
    assert json.loads(lines.read_text().splitlines()[0])["stage"] == "createRuntime"
