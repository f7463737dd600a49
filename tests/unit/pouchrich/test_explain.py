"""pouchrich explain: over images and bundles made of files, and over annotations alone."""

import json
import os

import pytest

from pouchrich.__main__ import main
from runtime import libexec, paths
from runtime.rich.plan import Plan
from runtime.rich.policy import Decision
from tests.unit.pouchrich.nodes import DUMB, SYSTEMD

SPEC = {
    "process": {"args": ["app", "--serve"], "env": ["PATH=/bin", "PASSWORD=secret"], "cwd": "/", "user": {"uid": 0}},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
    "annotations": {},
}
CONFIG = """\
version = 1
[rich]
lxcfs = false
[hooks]
prestart = [{ name = "first", where = "host", command = ["/bin/true", "a b"], when = { mode = ["dumb-init"] } }]
poststop = [{ name = "other", command = ["x"], when = { mode = ["systemd"] } }, { name = "last", command = ["y"] }]
[[routes]]
to = "10.1.0.0/16"
via = "10.0.0.1"
"""

has_helper = pytest.mark.skipif(
    not os.path.exists(f"{libexec.DIRECTORY}/dumb-init"), reason="runtime/libexec/dumb-init has not been built"
)


@pytest.fixture
def image(tmp_path):
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "bin/app").write_text("x")
    (root / "bin/app").chmod(0o755)
    return root


@pytest.fixture
def files(tmp_path, image):
    """The words for an image and its spec, and a configuration."""
    (tmp_path / "spec.json").write_text(json.dumps(SPEC))
    (tmp_path / "c.toml").write_text(CONFIG)
    config = ["--config", str(tmp_path / "c.toml"), "--any-owner"]
    return ["--rootfs", str(image), "--spec", str(tmp_path / "spec.json"), *config]


def run(capsys, *arguments):
    status = main(["explain", *map(str, arguments)])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@has_helper
def test_the_plan_its_sources_and_what_it_changes(capsys, files, tmp_path):
    status, out, _ = run(capsys, *files, "--container", "web", "--annotation", "pouchrich.io/stop-signal=QUIT")
    assert status == 0
    assert out.startswith(
        "rich container, mode dumb-init\nDecisions\n  rich = true  (built in)\n  mode = dumb-init  (built in)\nSteps\n"
    )
    assert (
        "  process.args\n"
        '    - ["app", "--serve"]\n'
        '    + ["/run/pouchrich/dumb-init", "-c", "--", "app", "--serve"]\n'
        "  process.env[rich_mode]\n"
        '    + "true"\n'
    ) in out
    assert out.endswith(
        "Prestart hooks\n"
        '  first: /bin/true "a b" (host, 30s, abort)\n'
        "Poststop hooks\n"
        "  last: y (container, 30s, continue)\n"
        "Routes\n"
        "  10.1.0.0/16 via 10.0.0.1\n"
    )
    assert "secret" not in out


@has_helper
def test_json_has_every_documented_key(capsys, files):
    status, out, _ = run(capsys, *files, "--json")
    found = json.loads(out)
    assert (status, found["version"], found["refused"], found["rich"], found["mode"]) == (0, 1, None, True, "dumb-init")
    assert (found["init"], found["stored"], found["policy_only"]) == ("dumb-init", False, False)
    args = {"path": "process.args", "before": ["app", "--serve"]}
    assert {**args, "after": ["/run/pouchrich/dumb-init", "-c", "--", "app", "--serve"]} in found["difference"]
    assert [hook["name"] for hook in found["hooks"]["prestart"]] == ["first"]
    assert found["routes"] == [{"to": "10.1.0.0/16", "via": "10.0.0.1"}]
    assert set(found) == {
        *("version", "refused", "stored", "policy_only", "config", "rich", "mode", "init", "decisions", "warnings"),
        *("notes", "steps", "files", "difference", "hooks", "agents", "routes"),
    }


def test_what_would_be_refused_is_said_in_creates_own_words(capsys, files):
    wanted = "pouchrich.io/mode.web=systemd"
    status, out, _ = run(capsys, *files, "--container", "web", "--annotation", wanted)
    assert status == 1
    assert out.startswith(
        "refused: config.json: annotation pouchrich.io/mode.web: found mode systemd, which is not possible: "
    )
    assert "; allowed dumb-init, auto\n" in out
    status, out, _ = run(capsys, *files, "--container", "web", "--annotation", wanted, "--json")
    found = json.loads(out)
    assert (status, found["rich"], found["difference"]) == (1, None, None)
    assert found["refused"].endswith("; allowed dumb-init, auto")


def test_a_plain_container_is_plain(capsys, files):
    status, out, _ = run(capsys, *files, "--env", "rich_mode=false")
    assert (status, out) == (0, "plain container\nDecisions\n  rich = false  (variable rich_mode)\n")


@has_helper
def test_a_bundle_without_a_container_is_planned_from_its_own_files(capsys, files, tmp_path, image):
    (tmp_path / "config.json").write_text(json.dumps({**SPEC, "root": {"path": "rootfs"}}))
    status, out, _ = run(capsys, tmp_path, *files[4:])
    assert status == 0
    assert "process.args" in out


def test_annotations_alone_ask_policy_and_no_image(capsys, tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG)
    config = ["--config", tmp_path / "c.toml", "--any-owner"]
    status, out, _ = run(capsys, "--annotation", "pouchrich.io/mode=systemd", "--container", "web", *config)
    assert (status, out) == (
        0,
        "rich container, mode systemd\n"
        "Decisions\n"
        "  rich = true  (built in)\n"
        "  mode = systemd  (annotation pouchrich.io/mode)\n"
        "note: the image was not examined: it may not serve the mode, or need none\n"
        "Poststop hooks\n"
        "  last: y (container, 30s, continue)\n"
        "  other: x (container, 30s, continue)\n"
        "Routes\n"
        "  10.1.0.0/16 via 10.0.0.1\n",
    )


@has_helper
def test_an_image_alone_is_planned_for_a_usual_container(capsys, files, image):
    words = ["--rootfs", str(image), *files[4:]]
    status, out, _ = run(capsys, *words)
    assert (status, out.splitlines()[0]) == (
        1,
        'refused: start process: exec: "/bin/sh": stat /bin/sh: no such file or directory',
    )
    (image / "bin/sh").write_text("x")
    (image / "bin/sh").chmod(0o755)
    status, out, _ = run(capsys, *words)
    assert (status, out.splitlines()[0]) == (0, "rich container, mode dumb-init")
    assert "note: without --spec, decided for /bin/sh in a container as the kubelet usually asks for it\n" in out
    status, out, _ = run(capsys, *words, "--annotation", "pouchrich.io/mode=systemd")
    assert (status, "mode systemd, which is not possible: /usr/lib/systemd/systemd: not in the image" in out) == (
        1,
        True,
    )


def test_an_annotation_for_another_container_is_not_ours(capsys, tmp_path):
    (tmp_path / "c.toml").write_text("version = 1\n")
    config = ["--config", tmp_path / "c.toml", "--any-owner"]
    _, out, _ = run(capsys, "--annotation", "pouchrich.io/mode.web=systemd", "--container", "sidecar", *config)
    assert "mode = dumb-init  (built in)" in out


def test_of_a_container_that_exists_the_kept_plan_is_shown(capsys, node):
    bundle = node.bundle("abc", SYSTEMD)
    status, out, _ = run(capsys, bundle)
    assert status == 0
    assert out.startswith("rich container, mode systemd, init systemd\nDecisions\n  rich = true  (built in)\n")
    assert out.endswith("File app.service\n  [Service]\n  ExecStart=x\n")
    found = json.loads(run(capsys, bundle, "--json")[1])
    assert (found["stored"], found["mode"], found["difference"]) == (True, "systemd", None)
    assert found["files"] == [{"name": "app.service", "mode": "0444", "text": "[Service]\nExecStart=x\n"}]


def test_of_a_further_container_that_stays_plain_the_kept_plan_is_shown(capsys, node, monkeypatch):
    stays = Decision("rich", "false", "the image's command already is an init: /tini")
    bundle = node.bundle("abc", Plan(False, None, (Decision("rich", "true", "built in"), stays)))
    (node.top / "pods/k8s.io/sandbox").mkdir(parents=True)
    (node.top / "pods/k8s.io/sandbox/abc").symlink_to(bundle)
    monkeypatch.setattr(paths, "PODS", str(node.top / "pods"))
    status, out, _ = run(capsys, "abc")
    assert (status, out.splitlines()[0]) == (0, "plain container")
    assert "rich = false  (the image's command already is an init: /tini)" in out


@has_helper
def test_a_container_that_exists_is_planned_anew_from_containerds_spec(capsys, node, files, tmp_path):
    bundle = node.bundle("abc", DUMB)
    (bundle / "rootfs").symlink_to(tmp_path / "rootfs")
    (tmp_path / "info.json").write_text(json.dumps({"ID": "abc", "Spec": SPEC}))
    status, out, _ = run(capsys, "--replan", "--spec", tmp_path / "info.json", *files[4:], bundle)
    assert status == 0
    assert "Changes of the spec\n" in out
    assert "/run/pouchrich/containers/k8s.io/abc" in out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "allowed: BUNDLE, or --rootfs DIR, also with --spec FILE, or --annotation KEY=VALUE"),
        (["--spec", "/x"], "allowed: BUNDLE"),
        (["--annotation", "mode=systemd"], "found key 'mode', allowed a whole one such as pouchrich.io/mode"),
        (["--annotation", "pouchrich.io/mode"], "found 'pouchrich.io/mode', allowed KEY=VALUE"),
        (["--env", "=x"], "found '=x', allowed KEY=VALUE"),
        (["BUNDLE", "--env", "a=b"], "other options need --replan"),
        (["BUNDLE", "--replan"], "ctr -n NAMESPACE containers info abc"),
    ],
)
def test_a_wrong_command_line_ends_with_2(capsys, node, words, reason):
    bundle = node.bundle("abc", DUMB)
    with pytest.raises(SystemExit) as caught:
        main(["explain", *(str(bundle) if word == "BUNDLE" else word for word in words)])
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


def test_bad_files_are_named(capsys, files, tmp_path):
    (tmp_path / "spec.json").write_text("{")
    assert run(capsys, *files)[2].startswith(f"pouchrich: {tmp_path}/spec.json: found Expecting")
    (tmp_path / "spec.json").write_text("[]")
    assert run(capsys, *files)[2] == f"pouchrich: {tmp_path}/spec.json: found list, allowed an object\n"
    assert run(capsys, tmp_path / "none")[2] == f"pouchrich: BUNDLE: found {tmp_path}/none, allowed a directory\n"
    (tmp_path / "c.toml").write_text("version = 2\n")
    assert run(capsys, *files)[2] == f"pouchrich: {tmp_path}/c.toml: version: found 2, allowed 1\n"


def test_a_root_that_cannot_be_read_is_no_refusal(capsys, files):
    words = [word if not word.endswith("/rootfs") else f"{word}/none" for word in files]
    status, out, err = run(capsys, *words)
    assert (status, out) == (1, "")
    assert err.endswith("/rootfs/none: no such file or directory\n")
