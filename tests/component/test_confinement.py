"""The node's AppArmor profile on its way to the OCI runtime, and a profile that the kernel has not loaded."""

import json
import os
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as Packed

from protos.gen import runtimeoptions_pb2
from runtime.linux import apparmor
from runtime.rich.confinement import DEFAULT
from shim.ttrpc.errors import Code, RemoteError
from tests.component.conftest import FAKE, Pod
from tests.component.test_told_paths import has_dumb_init, own_node, spec_with
from tests.fakes.loop import in_loop

__all__ = ["own_node"]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the pod server take a file for the kernel's list of profiles."""
    file = tmp_path / "profiles"
    file.write_text(f"{DEFAULT} (enforce)\nours (enforce)\n")
    monkeypatch.setattr(apparmor, "PROFILES", str(file))
    return str(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
@pytest.mark.skipif(not has_dumb_init(), reason="dumb-init is not built")
@in_loop
async def test_a_pods_default_profile_is_replaced_and_one_that_is_not_loaded_is_an_error(
    own_node: None, loaded: str, pod: Pod
):
    async def create(name: str, key: str, profile: str) -> str:
        spec = spec_with("pid", "mount")
        spec["process"] |= {"apparmorProfile": profile}  # type: ignore[operator]
        bundle = pod.bundle(name, spec=spec)
        program = Path(bundle) / "rootfs" / "bin" / "x"
        program.parent.mkdir()
        program.write_text("#!/bin/x\n")
        program.chmod(0o755)
        body = f"""
version = 1
runtime = {{ binary = "{FAKE}", root = "{pod.directory}/oci", systemd-cgroup = false }}
rich.apparmor-profile = "{key}"
"""
        value = runtimeoptions_pb2.Options(config_body=body.encode()).SerializeToString()
        options = Packed(type_url="runtimeoptions.v1.Options", value=value)
        await pod.call("Create", id=name, bundle=bundle, options=options)
        written = json.loads((Path(bundle) / "config.json").read_text())["process"]["apparmorProfile"]
        await pod.call("Delete", id=name)
        return str(written)

    async with pod.served():
        assert await create("replaced", "ours", DEFAULT) == "ours"
        assert await create("own", "ours", "mine") == "mine"
        assert await create("own-2", "not-there", "mine") == "mine"
        with pytest.raises(RemoteError) as caught:
            await create("refused", "not-there", DEFAULT)
        assert caught.value.code == Code.FAILED_PRECONDITION
        assert 'rich.apparmor-profile: found "not-there", which the kernel has not loaded' in caught.value.message
        assert f"allowed a profile of {loaded}: `apparmor_parser --replace`" in caught.value.message
        assert [call for call in pod.calls() if call.startswith("create refused")] == []
