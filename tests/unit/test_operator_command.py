"""pouchrich: the operator's command line."""

import json
import tomllib

import pytest

import shim
from pouchrich import containerd_config
from pouchrich.__main__ import VERBS, main
from runtime import config


def run(capsys, *arguments):
    status = main(arguments)
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_version(capsys):
    assert run(capsys, "version") == (0, f"{shim.__version__}\n", "")


def test_a_configuration_is_checked_and_printed_in_full(capsys, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("version = 1\nrich.mode = 'auto'")
    status, out, _ = run(capsys, "config", "--any-owner", str(path))
    assert status == 0
    assert f'mode = "auto"  # {path}: rich.mode' in out
    assert config.parse(out, source="F").rich.mode == "auto"


def test_a_wrong_configuration_fails_with_one_line(capsys, tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("version = 2")
    assert run(capsys, "config", "--any-owner", str(path)) == (
        1,
        "",
        f"pouchrich: {path}: version: found 2, allowed 1\n",
    )
    assert run(capsys, "config", str(tmp_path / "none"))[0] == 1


def test_the_default_file_is_a_configuration(capsys):
    status, out, _ = run(capsys, "config", "--default")
    assert (status, config.parse(out, source="F")) == (0, config.DEFAULT)


@pytest.mark.parametrize(
    ("major", "version", "plugin"),
    [("1", None, "io.containerd.grpc.v1.cri"), ("2", 3, "io.containerd.cri.v1.runtime")],
)
def test_the_handler_is_containerds_toml(capsys, major, version, plugin):
    arguments = ["--containerd", major, "--handler", "rich", "--runtime-path", "/a b", "--config-path", "/c"]
    found = tomllib.loads(run(capsys, "runtimeclass", *arguments)[1])
    assert found.get("version") == version
    assert found["plugins"][plugin]["containerd"]["runtimes"]["rich"] == {
        "runtime_type": "io.containerd.pouchrich.v2",
        "pod_annotations": ["pouchrich.io/*"],
        "container_annotations": ["io.kubernetes.pod.terminationGracePeriod"],
        "runtime_path": "/a b",
        "options": {"ConfigPath": "/c"},
    }
    plain = tomllib.loads(run(capsys, "runtimeclass", "--containerd", major)[1])
    assert set(plain["plugins"][plugin]["containerd"]["runtimes"]["pouchrich"]) == {
        "runtime_type",
        "pod_annotations",
        "container_annotations",
    }


@pytest.mark.parametrize(
    ("found", "text", "words"),
    [
        ((1, 7), "version = 2\n", "into FILE itself, which has version = 2, at its end"),
        ((1, 7), None, "into FILE itself, which has version = 2, at its end"),
        ((1, 6), "", "has to be brought to version 2 from 1, at its end"),
        ((2, 1), "version = 2\n", "a file of another version would remove the CRI section"),
        ((2, 1), "version = 3\n", "into a file that FILE imports"),
        ((2, 1), None, "into a file that FILE imports"),
    ],
)
def test_where_the_handler_belongs_depends_on_the_containerd_that_is_there(
    capsys, tmp_path, monkeypatch, found, text, words
):
    monkeypatch.setattr(containerd_config, "containerd_version", lambda: found)
    file = tmp_path / "config.toml"
    if text is not None:
        file.write_text(text)
    status, out, _ = run(capsys, "runtimeclass", "--containerd", "here", "--containerd-config", str(file))
    assert status == 0
    assert words.replace("FILE", str(file)) in out
    new = "into a file that" in words
    assert ("version = 3\n" in out.splitlines(keepends=True)) == new
    assert ("io.containerd.cri.v1.runtime" in out) == new
    monkeypatch.setattr(containerd_config, "containerd_version", lambda: None)
    status, _, err = run(capsys, "runtimeclass", "--containerd", "here")
    assert status == 1
    assert "containerd: not on PATH" in err


def test_the_runtime_class_names_the_handler(capsys):
    assert run(capsys, "runtimeclass", "--handler", "rich")[1] == (
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: rich\nhandler: rich\n"
    )


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("runtimeclass", "--handler", "a.b")])
def test_a_wrong_command_line_ends_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: pouchrich" in capsys.readouterr().err


def test_the_version_is_an_option_too_and_json_tells_what_it_works_with(capsys):
    with pytest.raises(SystemExit) as caught:
        main(("--version",))
    assert (caught.value.code, capsys.readouterr().out) == (0, f"{shim.__version__}\n")
    found = json.loads(run(capsys, "version", "--json")[1])
    assert set(found) == {"version", "pouchrich", "python", "kernel", "containerd"}
    assert found["pouchrich"] == shim.__version__


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_its_options_and_the_format_of_its_json(capsys, verb):
    status, out, _ = run(capsys, "help", verb)
    assert status == 0
    assert f"usage: pouchrich {verb}" in out
    if verb != "node":  # which acts
        assert "--json" in out
        assert '"version": 1' in out or verb == "top"  # which prints what ps does


def test_help_of_what_is_no_verb_says_what_was_meant(capsys):
    assert run(capsys, "help")[1].startswith("usage: pouchrich [-h]")
    with pytest.raises(SystemExit) as caught:
        main(("help", "inspct"))
    assert caught.value.code == 2
    assert "(did you mean inspect)" in capsys.readouterr().err
