"""shim.spawner.info: what containerd hears of the runtime before it lets a pod in."""

import json
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any

from protos.gen import runc_options_pb2, runtimeoptions_pb2, types_pb2
from shim.spawner import info

FEATURES = {
    "ociVersionMin": "1.0.0",
    "linux": {"namespaces": ["user"], "mountExtensions": {"idmap": {"enabled": True}}},
}


@pytest.fixture
def runtime(tmp_path):
    """An OCI runtime that knows `features` and nothing else."""

    def make(text):
        path = tmp_path / "runtime"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        path.chmod(0o755)
        return path

    return make


def packed(message):
    options = Any(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())
    return options.SerializeToString()


def of_runc(path: Path):
    return packed(runc_options_pb2.Options(binary_name=str(path)))


def of_a_handlers_table(path: Path):
    body = f'version = 1\nruntime.binary = "{path}"\n'
    return packed(runtimeoptions_pb2.Options(config_body=body.encode()))


def told(stdin):
    found = types_pb2.RuntimeInfo.FromString(info.answer(stdin))
    return json.loads(found.features.value) if found.features.value else None


def test_with_runcs_options_the_features_are_the_oci_runtimes_own(runtime):
    assert told(of_runc(runtime(json.dumps(FEATURES)))) == FEATURES


def test_with_an_options_table_no_user_namespaces_are_offered_and_all_else_is(runtime):
    found = told(of_a_handlers_table(runtime(json.dumps(FEATURES))))
    assert found["linux"]["mountExtensions"]["idmap"] == {"enabled": False}
    found["linux"]["mountExtensions"]["idmap"]["enabled"] = True
    assert found == FEATURES


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"linux": null}', '{"linux": {"mountExtensions": 3}}', "no JSON"])
def test_what_an_oci_runtime_does_not_say_is_not_made_up(runtime, text):
    found = told(of_a_handlers_table(runtime(text)))
    assert found is None or found == json.loads(text)


def test_an_oci_runtime_without_features_has_none(runtime):
    path = runtime("")
    path.write_text("#!/bin/sh\nexit 1\n")
    assert told(of_runc(path)) is None
