"""pouchrich.node.apparmor: the profile written, loaded and taken away, with a parser and a kernel that only note it."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from pouchrich.cluster import membership, status
from pouchrich.node import apparmor, current, install, uninstall
from pouchrich.node.layout import Layout
from pouchrich.node.lock import locked
from runtime.linux import apparmor as kernel
from shim.installed import replaced
from tests.process.pouchrich.test_node import killed_at

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "pouchrich/node/pouchrich.apparmor").read_text()
PARSER = """#!/bin/sh
[ ! -e {base}/broken ] || {{ echo "AppArmor parser error for $2: no such thing" >&2; exit 1; }}
case $1 in
    --replace) echo "pouchrich (enforce)" >{base}/profiles ;;
    --remove) : >{base}/profiles ;;
esac
echo "$1 $(sed -n '$p' $2)" >>{base}/calls
"""


class Node:
    """A node with AppArmor, whose files are below a directory."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.file = base / "etc/apparmor.d/pouchrich"
        self.layout = Layout(f"{base}/home", f"{base}/bin", f"{base}/etc/pouchrich/config.toml")
        self.process("7", "unconfined\n")

    def version(self, name: str, text: str = TEXT) -> None:
        """Have a version be the one that is run."""
        os.makedirs(self.layout.home, exist_ok=True)
        source = Path(self.layout.home, name, apparmor.SOURCE)
        source.parent.mkdir(parents=True)
        source.write_text(text)
        link = Path(self.layout.home, "current")
        link.unlink(missing_ok=True)
        link.symlink_to(name)

    def process(self, pid: str, label: str, file: str = "attr/apparmor/current") -> None:
        path = self.base / "proc" / pid / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(label)

    def calls(self) -> list[str]:
        path = self.base / "calls"
        return [line.partition(" ")[0] for line in path.read_text().splitlines()] if path.exists() else []

    def loaded(self) -> bool:
        return (self.base / "profiles").read_text() != ""

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.base)) for path in (self.base / "etc").rglob("*"))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    (tmp_path / "enabled").write_text("Y\n")
    (tmp_path / "profiles").write_text("")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/apparmor_parser").write_text(PARSER.format(base=tmp_path))
    (tmp_path / "tools/apparmor_parser").chmod(0o755)
    (tmp_path / "etc/apparmor.d/abi").mkdir(parents=True)
    (tmp_path / "etc/apparmor.d/abi/3.0").write_text("")
    users = apparmor.users
    monkeypatch.setattr(apparmor, "users", lambda: users(f"{tmp_path}/proc"))
    monkeypatch.setattr(apparmor, "FILE", str(made.file))
    monkeypatch.setattr(apparmor, "ABI", f"{tmp_path}/etc/apparmor.d/abi/3.0")
    monkeypatch.setattr(apparmor, "ENABLED", f"{tmp_path}/enabled")
    monkeypatch.setattr(apparmor, "DEFAULT_PATH", f"{tmp_path}/tools")
    monkeypatch.setattr(kernel, "PROFILES", f"{tmp_path}/profiles")
    monkeypatch.setattr(uninstall, "RECORDS", f"{tmp_path}/records")
    monkeypatch.setattr(current, "_sync", lambda directory: None)
    monkeypatch.setattr(replaced, "_is_run", lambda path, *, mapped: False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return made


def test_it_is_written_and_loaded_and_taken_back_wholly(node: Node, capsys: pytest.CaptureFixture[str]):
    before = node.files()
    node.version("1")
    for _ in range(2):
        apparmor.put(node.layout)
        assert node.file.read_text() == TEXT
        assert node.loaded()
        assert capsys.readouterr().out.startswith("AppArmor profile pouchrich: loaded, and at boots from ")
    assert node.calls() == ["--replace", "--replace"]
    assert node.file.stat().st_mode & 0o777 == 0o644
    apparmor.take_away(node.layout)
    assert (node.files(), node.loaded()) == (before, False)
    assert capsys.readouterr() == ("", "")


def test_it_is_of_the_version_that_is_run_after_a_rollback_too(node: Node):
    for name in ("1", "2"):
        node.version(name, f"{TEXT}# {name}\n")
        apparmor.put(node.layout)
    os.unlink(f"{node.layout.home}/current")
    os.symlink("1", f"{node.layout.home}/current")
    apparmor.put(node.layout)
    assert node.file.read_text() == f"{TEXT}# 1\n"
    node.version("none")
    Path(node.layout.home, "none", apparmor.SOURCE).unlink()
    apparmor.put(node.layout)
    assert node.file.read_text() == f"{TEXT}# 1\n"


@pytest.mark.parametrize(
    ("lacks", "why"),
    [
        ("enabled", "AppArmor is not in force on this node"),
        ("tools/apparmor_parser", "there is no apparmor_parser (Debian's and Ubuntu's package apparmor has it)"),
    ],
)
def test_where_there_is_none_that_is_said_and_nothing_is_changed(node: Node, lacks: str, why: str, capsys):
    before = node.files()
    (node.base / lacks).unlink()
    node.version("1")
    apparmor.put(node.layout)
    assert capsys.readouterr().out == f"AppArmor profile pouchrich: not loaded: {why}\n"
    assert node.files() == before
    apparmor.take_away(node.layout)
    assert list(apparmor.needing(node.layout)) == []


@pytest.mark.parametrize("former", ["", f"{TEXT}# former\n"])
def test_what_the_parser_does_not_take_is_not_left_for_a_boot(node: Node, former: str, capsys):
    if former:
        node.file.write_text(former)
    node.version("1")
    (node.base / "broken").touch()
    apparmor.put(node.layout)
    said = capsys.readouterr().out
    assert "not loaded: apparmor_parser --replace: AppArmor parser error" in said
    assert (node.file.read_text() if former else node.file.exists()) == (former or False)


def test_anothers_profile_of_the_name_stays(node: Node, capsys):
    node.file.write_text("profile pouchrich { file, }\n")
    node.version("1")
    apparmor.put(node.layout)
    assert f"not loaded: {node.file} belongs to another program" in capsys.readouterr().out
    apparmor.take_away(node.layout)
    assert node.file.read_text() == "profile pouchrich { file, }\n"
    assert node.calls() == []


def test_a_file_that_cannot_be_written_is_said(node: Node, capsys, monkeypatch):
    monkeypatch.setattr(apparmor, "FILE", f"{node.base}/enabled/pouchrich")
    node.version("1")
    apparmor.put(node.layout)
    assert "not loaded: " in (said := capsys.readouterr().out)
    assert "enabled" in said


def test_a_parser_without_the_versions_file_is_told_of_none(node: Node):
    (node.base / "etc/apparmor.d/abi/3.0").unlink()
    node.version("1")
    apparmor.put(node.layout)
    assert "\nabi " not in node.file.read_text()
    assert "\nprofile pouchrich " in node.file.read_text()


@pytest.mark.parametrize(
    ("label", "file", "runs"),
    [
        ("pouchrich (enforce)\n", "attr/apparmor/current", True),
        ("pouchrich//&unconfined (enforce)\n", "attr/apparmor/current", True),
        ("crun//&pouchrich (mixed)\n", "attr/apparmor/current", True),
        ("pouchrich (complain)\n", "attr/current", True),
        ("pouchrich-2 (enforce)\n", "attr/apparmor/current", False),
        ("unconfined\n", "attr/current", False),
    ],
)
def test_while_processes_run_under_it_it_is_neither_uninstalled_nor_unloaded(
    node: Node, label: str, file: str, runs: bool, capsys
):
    node.version("1")
    apparmor.put(node.layout)
    node.process("11", label, file)
    needs = [one for one in uninstall.needing(node.layout) if one.startswith("AppArmor")]
    assert needs == (["AppArmor profile pouchrich: 1 processes run under it, pid 11 is one"] if runs else [])
    capsys.readouterr()
    apparmor.take_away(node.layout)
    assert node.loaded() == runs
    assert not node.file.exists()
    said = capsys.readouterr().err
    assert ("stays loaded until the node boots: processes run under it" in said) == runs


def test_below_a_prefix_the_nodes_profile_is_left_alone(node: Node):
    layout = Layout(node.layout.home, node.layout.bin, prefix=str(node.base))
    node.version("1")
    apparmor.put(layout)
    apparmor.take_away(layout)
    assert (node.calls(), node.file.exists(), list(apparmor.needing(layout))) == ([], False, [])


def test_after_a_run_that_was_killed_at_any_step_the_next_one_ends_it(node: Node):
    before = node.files()
    node.version("1")

    def install_it() -> None:
        apparmor.put(node.layout)

    def remove_it() -> None:
        with locked(node.layout):
            uninstall.remove(node.layout)

    step = 0
    while killed_at(step, install_it):
        install_it()
        assert (node.file.read_text(), node.loaded()) == (TEXT, True)
        remove_it()
        assert (node.files(), node.loaded()) == (before, False), step
        node.version("1")
        step += 1
    assert step > 2
    for step in range(100):
        install_it()
        if not killed_at(step, remove_it):
            break
        if os.path.isdir(node.layout.home):
            remove_it()
        assert (node.files(), node.loaded()) == (before, False), step
        node.version("1")


def test_status_says_it(node: Node):
    assert apparmor.words(apparmor.status(node.layout)) == "profile pouchrich is not loaded"
    node.version("1")
    apparmor.put(node.layout)
    found = status.of(node.layout)["apparmor"]
    assert found == {"profile": "pouchrich", "file": str(node.file), "loaded": True, "installed": True}
    assert apparmor.words(found) == f"profile pouchrich is loaded, at boots from {node.file}"
    (node.base / "enabled").write_text("N\n")
    assert apparmor.status(node.layout) is None
    assert apparmor.words(None) == "not in force"


def test_installing_and_rolling_back_load_it(node: Node, monkeypatch: pytest.MonkeyPatch):
    node.version("1")
    monkeypatch.setattr(install, "_install", lambda *about, unattended: None)
    install.install(node.layout, "", "1")
    assert node.calls() == ["--replace"]
    monkeypatch.setattr(current, "roll_back", lambda layout: ("2", "1"))
    monkeypatch.setattr(membership.hold, "refuse", lambda: None)
    membership.roll_back(node.layout)
    assert node.calls() == ["--replace", "--replace"]


def test_a_wheel_has_it():
    assert re.search(r'^pouchrich = \["node/\*\.apparmor"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_a_release_has_the_profile_beside_the_code():
    """By the very words with which hack/release.sh looks for what to copy."""
    (words,) = re.findall(r"&& (find shim .*?) \| sort", (ROOT / "hack/release.sh").read_text())
    found = subprocess.run(["sh", "-c", words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {"pouchrich/node/pouchrich.apparmor", "pouchrich/node/apparmor.py"} <= set(found)
