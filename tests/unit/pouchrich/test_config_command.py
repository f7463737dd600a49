"""pouchrich config: show, check, set-default."""

import json
import os
import stat
from functools import partial
from pathlib import Path

import pytest

from pouchrich.__main__ import main
from pouchrich.commands import configuring
from runtime import config
from runtime.agents import node_check
from runtime.agents.mounts import check_sources
from runtime.config.render import default_file


def run(capsys, *words):
    status = main(["config", *words])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(default_file())
    path.chmod(0o640)
    return path


def set_default(capsys, file, *words):
    return run(capsys, "set-default", "--any-owner", "--file", str(file), *words)


def test_a_default_is_set_and_comments_stay(capsys, file):
    before = file.read_text()
    status, out, _ = set_default(capsys, file, "rich.mode", "systemd")
    assert (status, out) == (
        0,
        f'{file}: rich.mode = "systemd"; this applies to containers that are created from now on\n',
    )
    found = config.load(str(file), require_root_owned=False)
    assert (found.rich.mode, found.source_of("rich.mode")) == ("systemd", f"{file}: rich.mode")
    assert [line for line in before.splitlines() if line not in file.read_text().splitlines()] == []
    assert file.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in file.parent.iterdir()] == ["config.toml"]
    set_default(capsys, file, "rich.mode", "auto")
    assert config.load(str(file), require_root_owned=False).rich.mode == "auto"
    set_default(capsys, file, "rich.mode")
    assert config.load(str(file), require_root_owned=False) == config.parse(before, source=str(file))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("rich.strict", "true", lambda found: found.rich.strict is True),
        ("rich.boot-parallel", "7", lambda found: found.rich.boot_parallel == 7),
        ("services.enable", '["cron", "sshd"]', lambda found: found.services.enable == ("cron", "sshd")),
        (
            "hooks.prestart",
            '[{ name = "a", command = ["/bin/true"] }]',
            lambda found: found.hooks.prestart[0].name == "a",
        ),
        ("routes", '[{ to = "10.0.0.0/8", via = "10.1.0.1" }]', lambda found: len(found.routes) == 1),
    ],
)
def test_a_value_is_toml_or_a_string(capsys, file, key, value, expected):
    assert set_default(capsys, file, key, value)[0] == 0
    assert expected(config.load(str(file), require_root_owned=False))


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("rich.mode", "systmd"), "(did you mean systemd)"),
        (("rich.mod", "systemd"), "(did you mean rich.mode)"),
        (("rich.start-timeout", "never"), 'rich.start-timeout: found "never", allowed a duration'),
        (("version", "2"), "KEY: found 'version'"),
    ],
)
def test_what_is_wrong_changes_nothing(capsys, file, words, error):
    before = file.read_text()
    status, out, err = set_default(capsys, file, *words)
    assert (status, out) == (1, "")
    assert error in err
    assert file.read_text() == before
    assert [one.name for one in file.parent.iterdir()] == ["config.toml"]


def test_a_file_that_is_wrong_is_not_touched(capsys, file):
    file.write_text("version = 1\nrich.mode = 'x'\n")
    assert set_default(capsys, file, "rich.strict", "true")[0] == 1
    assert file.read_text() == "version = 1\nrich.mode = 'x'\n"


def test_a_file_that_is_not_there_is_made(capsys, tmp_path):
    file = tmp_path / "new.toml"
    assert set_default(capsys, file, "rich.mode", "auto", "--json")[0] == 0
    assert config.load(str(file), require_root_owned=False).rich.mode == "auto"


def test_check_says_whether_a_file_is_right(capsys, file):
    assert run(capsys, "check", "--any-owner", str(file)) == (0, f"{file}: valid\n", "")
    file.write_text("version = 1\nrihc.mode = 'auto'\n")
    status, _, err = run(capsys, "check", "--any-owner", str(file))
    assert status == 1
    assert "rihc: found an unknown key" in err
    status, out, _ = run(capsys, "check", "--any-owner", "--json", str(file))
    found = json.loads(out)
    assert (status, found["valid"], set(found)) == (1, False, {"version", "file", "valid", "error", "refused_by"})


@pytest.fixture
def agent(file, tmp_path, monkeypatch):
    """Write an agent with `more` keys; root's own files, as far as the command can tell."""
    monkeypatch.setattr(configuring.os, "geteuid", lambda: 0)
    monkeypatch.setattr(node_check, "check_sources", partial(check_sources, lstat=rooted(tmp_path)))
    monkeypatch.setattr(configuring, "load", lambda path, **_: config.load(path, require_root_owned=False))

    def write(more):
        file.write_text(f'version = 1\n[[agents]]\ncommand = ["/opt/watcher"]\n{more}\n')
        return str(file)

    return write


def rooted(directory):
    def lstat(path):
        found = list(os.lstat(path))
        found[stat.ST_MODE], found[stat.ST_UID] = found[stat.ST_MODE] & ~0o022, 0
        return os.stat_result(found)

    return lstat


def test_check_finds_what_agents_lack_on_this_node(capsys, agent, tmp_path, monkeypatch):
    (tmp_path / "watcher").touch()
    mount = 'mounts = [{ source = "%s", target = "/opt/watcher" }]'
    assert run(capsys, "check", agent(mount % f"{tmp_path}/watcher"))[0] == 0
    missing = agent(mount % f"{tmp_path}/none")
    status, out, err = run(capsys, "check", missing)
    assert (status, out) == (1, "")
    assert f"{missing}: agents[0].mounts[0].source: found nothing at {tmp_path}/none" in err
    found = json.loads(run(capsys, "check", missing, "--json")[1])
    assert (found["valid"], f"found nothing at {tmp_path}/none" in found["error"]) == (False, True)
    assert run(capsys, "check", missing, "--any-owner")[0] == 0  # this node's files do not matter for it

    limited = agent('memory = "64Mi"')
    monkeypatch.setattr(node_check, "has_v2_memory", lambda: False)
    status, _, err = run(capsys, "check", limited)
    assert status == 1
    assert "agents[0].memory: found 67108864, allowed only on a node whose memory controller is on cgroup v2" in err
    monkeypatch.setattr(node_check, "has_v2_memory", lambda: True)
    assert run(capsys, "check", limited)[0] == 0


def test_an_agent_that_this_node_lacks_something_for_is_not_set(capsys, agent, tmp_path):
    file = agent("")
    before = Path(file).read_text()
    value = f'[{{ command = ["/x"], mounts = [{{ source = "{tmp_path}/none", target = "/x" }}] }}]'
    status, _, err = run(capsys, "set-default", "agents", value, "--file", file)
    assert (status, Path(file).read_text()) == (1, before)
    assert f"{file}: agents[0].mounts[0].source: found nothing at {tmp_path}/none" in err
    agent('mounts = [{ source = "/none", target = "/opt/watcher" }]')
    assert (
        run(capsys, "set-default", "rich.mode", "auto", "--file", file)[0] == 0
    )  # only that agent's containers need it


@pytest.mark.parametrize("words", [("check",), ("show",), ("set-default", "rich.mode", "auto", "--file")], ids=str)
def test_a_file_is_named_as_in_a_shell(capsys, file, words, monkeypatch):
    monkeypatch.chdir(file.parent)
    status, out, _ = run(capsys, *words, "config.toml", "--any-owner")
    assert (status, f"{file}: " in out) == (0, True) or words == ("show",)


@pytest.mark.parametrize("words", [("check",), ("show",), ("set-default", "rich.mode", "auto", "--file")], ids=str)
def test_an_error_about_a_files_owner_names_the_option(capsys, file, words):
    os.chmod(file, 0o666)
    status, _, err = run(capsys, *words, str(file))
    assert status == 1
    assert ": found " in err
    assert err.endswith(", allowed writable by root only; --any-owner accepts it here, the shim does not\n") or (
        err.endswith(", allowed uid 0 (root); --any-owner accepts it here, the shim does not\n")
    )


def test_show_has_every_key_as_json(capsys, file):
    set_default(capsys, file, "rich.mode", "auto", "--json")
    capsys.readouterr()
    found = json.loads(run(capsys, "show", "--any-owner", "--json", str(file))[1])
    keys = {one["key"]: one for one in found["keys"]}
    assert keys["rich.mode"] == {"key": "rich.mode", "value": "auto", "source": f"{file}: rich.mode"}
    assert keys["rich.boot-parallel"]["value"] is None
    assert keys["rich.start-timeout"]["value"] == "1m"


@pytest.mark.parametrize(
    "words", [("set-default",), ("set-default", "a", "b", "c"), ("show", "a", "b"), ("default", "x")]
)
def test_a_wrong_command_line_ends_with_2(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(["config", *words])
    assert caught.value.code == 2
