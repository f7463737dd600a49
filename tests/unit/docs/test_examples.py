"""Every example of a configuration, a handler and a manifest in the documents is one."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pouchrich import handler
from runtime import config
from runtime.config.annotations import PREFIX, read_overrides
from runtime.config.render import toml
from runtime.config.schema import KEYS, TABLES
from runtime.config.values import MODES, POD_KEYS
from runtime.hooks import environment
from runtime.rich import policy
from runtime.spec.cri import CONTAINER_NAME, SANDBOX_NAMESPACE
from runtime.spec.identity import Identity
from tests.unit.docs import manifests, markdown
from tests.unit.docs.markdown import Block

TOML = [*markdown.blocks("toml"), *markdown.files("toml")]
CONFIGURATIONS = [one for one in TOML if "plugins." not in one.text]
HANDLERS = [one for one in TOML if one not in CONFIGURATIONS]
YAML = [*markdown.blocks("yaml"), *markdown.files("yaml")]
CONTAINERFILES = [
    *markdown.blocks("dockerfile"),
    *(Block(path, 1, "dockerfile", path.read_text()) for path in sorted(markdown.EXAMPLES.rglob("Containerfile"))),
]
EXAMPLES = sorted(path for path in markdown.EXAMPLES.iterdir() if path.is_dir())
KINDS = {
    ("node.k8s.io/v1", "RuntimeClass"),
    ("v1", "Pod"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("batch/v1", "Job"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
}
FORMATS = markdown.ROOT / "docs" / "hooks-agents-services.md"
MODES_PAGE = markdown.ROOT / "docs" / "modes.md"


def test_there_are_examples_of_each_kind():
    assert CONFIGURATIONS
    assert HANDLERS
    assert {one.page.name for one in YAML} >= {"README.md", FORMATS.name}
    assert {one.language for page in markdown.PAGES for one in markdown.blocks_of(page)} == {
        "",
        "console",
        "dockerfile",
        "json",
        "sh",
        "toml",
        "yaml",
    }


def test_dockers_configuration_names_our_type_and_an_option_that_docker_passes():
    (block,) = markdown.blocks("json")
    (runtime,) = json.loads(block.text)["runtimes"].values()
    assert runtime["runtimeType"] == handler.RUNTIME_TYPE
    assert set(runtime["options"]) == {"ConfigPath"}


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=str)
def test_a_configuration_is_accepted(block: Block):
    assert config.parse(block.text, source=str(block)) != config.DEFAULT


@pytest.mark.parametrize("block", HANDLERS, ids=str)
def test_a_handler_is_what_the_command_prints(block: Block):
    """Its keys for the shim, where it has some, are a configuration."""
    found = tomllib.loads(block.text)
    major, version = (2, 3) if "version" in found else (1, None)
    for plugin in found["plugins"].values():
        for one in plugin["containerd"]["runtimes"].values():
            if keys := one.pop("options", None):
                body = "\n".join(f"{name} = {toml(value)}" for name, value in keys.items())
                assert config.for_handler(config_path="", config_body=body.encode()) != config.DEFAULT

    printed = handler.containerd(
        major, handler="pouchrich", runtime_path="", config_path="", version=version, file="FILE"
    )
    assert found == tomllib.loads(printed)


def test_a_handler_with_keys_for_the_shim_is_shown():
    assert [one.page.name for one in HANDLERS if ".options]" in one.text] == ["operations.md"]


def keys_in(value: Any, at: str = "") -> set[str]:
    """The names of all keys in a configuration, spelt as in the tables."""
    if isinstance(value, list):
        return {name for one in value for name in keys_in(one, f"{at}[]" if isinstance(one, dict) else at)}
    if not isinstance(value, dict) or at.endswith(".env"):
        return {at}
    found: set[str] = {at}
    for key, one in value.items():
        name = f"{at}.{key}".lstrip(".")
        # `when` is one table wherever it stands.
        found |= {name} | keys_in(one, "when" if key == "when" else name)
    return found


def test_the_examples_have_every_key_of_every_table():
    shown = set().union(*(keys_in(tomllib.loads(one.text)) for one in CONFIGURATIONS if one.page == FORMATS))
    wanted = {f"{where}.{key.name}" for where, keys in TABLES.items() for key in keys}
    # The two lists of hooks have the same keys.
    assert {name.replace("poststop", "prestart") for name in wanted} <= {
        name.replace("poststop[]", "prestart[]") for name in shown
    }
    assert {key.name for key in KEYS if key.name.startswith(("hooks.", "services."))} <= {
        name.removesuffix("[]") for name in shown
    }


def objects(block: Block) -> list[dict[str, Any]]:
    return manifests.load(block.text)


@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_manifest_names_itself(block: Block):
    for one in objects(block):
        assert (one["apiVersion"], one["kind"]) in KINDS
        assert re.fullmatch(r"[a-z0-9-]+", one["metadata"]["name"])


def templates(block: Block) -> list[dict[str, Any]]:
    """The pods of a manifest, and the templates of pods."""
    found = []
    for one in objects(block):
        if one["kind"] == "Pod":
            found.append(one)
        elif "template" in one.get("spec", {}):
            labels = one["spec"]["template"]["metadata"].get("labels", {})
            assert one["spec"].get("selector", {}).get("matchLabels", labels).items() <= labels.items()
            found.append(one["spec"]["template"])
    return found


def node_of(block: Block) -> config.Config:
    """The node's configuration that an example comes with, or else the default."""
    file = block.page.parent / "node.toml"
    return config.parse(file.read_text(), source=str(file)) if file.exists() else config.DEFAULT


@pytest.mark.parametrize("block", YAML, ids=str)
def test_a_pods_annotations_are_accepted_for_each_of_its_containers(block: Block):
    for pod in templates(block):
        annotations = pod["metadata"].get("annotations", {})
        names = [one["name"] for one in pod["spec"]["containers"]]
        assert pod["spec"]["runtimeClassName"] == "pouchrich"
        assert all(isinstance(value, str) for value in annotations.values())
        assert all(key.startswith(PREFIX) for key in annotations)
        assert {key.partition(".io/")[2].partition(".")[2] for key in annotations} <= {"", *names}
        for container in pod["spec"]["containers"]:
            assert all(isinstance(word, str) for word in container.get("command", ()))
            assert container["image"]
            node = node_of(block)
            overrides = read_overrides(annotations, {}, container=container["name"], config=node)
            told = {CONTAINER_NAME: container["name"], SANDBOX_NAMESPACE: "default", **annotations}
            spec = {"annotations": told, "process": {"args": container.get("command", ["app"])}}
            choice = policy.choose(spec, node, Identity.from_spec(spec, namespace="k8s.io", container_id="c"))
            assert choice.rich is (overrides["rich"].value if "rich" in overrides else True)


@pytest.mark.parametrize("block", YAML, ids=str)
def test_each_volume_that_is_mounted_is_one_of_the_pods(block: Block):
    claims = {one["metadata"]["name"] for one in objects(block) if one["kind"] == "PersistentVolumeClaim"}
    maps = {one["metadata"]["name"] for one in objects(block) if one["kind"] == "ConfigMap"}
    more = {
        claim["metadata"]["name"]
        for one in objects(block)
        for claim in one.get("spec", {}).get("volumeClaimTemplates", [])
    }
    for pod in templates(block):
        volumes = pod["spec"].get("volumes", [])
        mounted = {mount["name"] for one in pod["spec"]["containers"] for mount in one.get("volumeMounts", [])}
        assert mounted == {one["name"] for one in volumes} | more
        assert {one["configMap"]["name"] for one in volumes if "configMap" in one} == maps
        assert {
            one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one
        } == claims


@pytest.mark.parametrize("block", CONTAINERFILES, ids=str)
def test_a_containerfile_is_short_and_copies_what_there_is(block: Block):
    lines = re.sub(r"\\\n", " ", block.text).splitlines()
    steps = [line.split() for line in lines if line and not line.startswith("#")]
    assert len(block.text.splitlines()) <= 12
    assert {step[0] for step in steps} <= {"FROM", "RUN", "COPY", "ADD", "CMD"}
    assert (steps[0][0], steps[-1][0]) == ("FROM", "CMD")
    assert steps[0][1] in {"debian:12", "scratch"}
    for step in steps:
        if step[0] == "COPY":
            assert (block.page.parent / step[1]).is_file()


@pytest.mark.parametrize("example", EXAMPLES, ids=markdown.name)
def test_an_example_has_all_that_its_manifest_asks_for(example: Path):
    (manifest,) = example.glob("*.yaml")
    (block,) = (one for one in YAML if one.page == manifest)
    (pod,) = templates(block)
    (image,) = {container["image"] for container in pod["spec"]["containers"]}
    text = (example / "README.md").read_text()
    assert (example / "Containerfile").exists() == image.startswith("registry.example/")
    assert (f"buildah build -t {image} ." in text) == (example / "Containerfile").exists()
    assert f"kubectl apply -f {manifest.name}\n" in text
    told = "".join(one.read_text() for one in (example / "README.md", example / "Containerfile") if one.exists())
    assert [
        one.name for one in example.iterdir() if one.name not in {"README.md", "Containerfile"} and one.name not in told
    ] == []


def test_the_first_pod_is_of_the_class_that_the_command_prints():
    (block,) = (one for one in YAML if one.page.name == "README.md")
    runtime_class, job = objects(block)
    assert block.text.startswith(handler.runtime_class("pouchrich"))
    assert job["spec"]["template"]["spec"]["runtimeClassName"] == runtime_class["metadata"]["name"]


def test_the_formats_name_every_annotation_and_one_pod_shows_them():
    assert [row[0] for row in markdown.rows(FORMATS, "Key", "Value")] == [f"`{key}`" for key in POD_KEYS]
    (block,) = (one for one in YAML if one.page == FORMATS)
    (pod,) = objects(block)
    shown = {key.removeprefix(PREFIX).partition(".")[0] for key in pod["metadata"]["annotations"]}
    assert shown == set(POD_KEYS)


def test_the_formats_name_every_variable_of_a_hook():
    subject = environment.HookSubject("c", "k8s.io", "/b", "/r", "app", "default", "systemd", {})
    told = environment.variables(subject, environment.ending(0))
    cells = " ".join(row[0] for row in markdown.rows(FORMATS, "Variable", "Value"))
    assert set(re.findall(r"`(\w+)`", cells)) == set(told)


def test_the_modes_are_those_that_there_are():
    names = {re.findall(r"`([a-z-]+)`", row[0])[0] for row in markdown.rows(MODES_PAGE, "Mode", "PID 1")}
    assert names == set(MODES)
