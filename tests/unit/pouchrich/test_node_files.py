"""pouchrich.node_files: a file system of the node that does not answer keeps no command for ever."""

import threading

import pytest

from pouchrich import node_agents, node_files
from pouchrich.__main__ import main
from pouchrich.checks import FAIL
from pouchrich.commands import configuring
from runtime import config
from runtime.agents import node_check
from runtime.config import file as config_file
from runtime.errors import FailedPrecondition

HOOK = "version = 1\n[[hooks.prestart]]\ncommand = ['/mnt/nfs/hook']\nwhere = 'host'\n"
AGENT = "version = 1\n[[agents]]\ncommand = ['/x']\nmounts = [{ source = '/mnt/nfs/x', target = '/x' }]\n"


@pytest.fixture
def hanging(monkeypatch):
    """A file system that answers at the test's end."""
    answers = threading.Event()
    monkeypatch.setattr(node_files, "PATIENCE_S", 0.05)
    monkeypatch.setattr(config_file, "trusted_path", lambda *_: answers.wait())
    monkeypatch.setattr(node_check, "check_sources", lambda *_, **__: answers.wait())
    yield
    answers.set()


@pytest.mark.usefixtures("hanging")
def test_programs_that_do_not_answer():
    with pytest.raises(FailedPrecondition, match=r"c: programs of the hooks on the host did not answer for 0\.05 s"):
        node_files.check_programs(config.parse(HOOK, source="c"))


@pytest.mark.usefixtures("hanging")
def test_doctor_says_that_agents_mounts_do_not_answer(monkeypatch):
    monkeypatch.setattr(node_agents.os, "geteuid", lambda: 0)
    (found,) = node_agents.checks(config.parse(AGENT, source="c"))
    assert (found.level, found.what) == (FAIL, "agents of the configuration")
    assert found.found == "c: host paths of the agents did not answer for 0.05 s: does a file system hang?"


@pytest.mark.usefixtures("hanging")
@pytest.mark.parametrize("text", [HOOK, AGENT], ids=["hooks", "agents"])
def test_the_check_of_a_file_ends(capsys, tmp_path, monkeypatch, text):
    file = tmp_path / "config.toml"
    file.write_text(text)
    load = config.load
    monkeypatch.setattr("pouchrich.config_file.load", lambda path, **_: load(path, require_root_owned=False))
    monkeypatch.setattr(configuring.os, "geteuid", lambda: 0)
    assert main(["config", "check", str(file)]) == 1
    assert "did not answer for 0.05 s" in capsys.readouterr().err


def test_what_a_look_finds_is_raised():
    with pytest.raises(config_file.InvalidArgument, match="found nothing at"):
        node_files.check_agents(config.parse(AGENT.replace("/mnt/nfs", "/nowhere"), source="c"))
