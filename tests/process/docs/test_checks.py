"""The programs that check what is to be committed: those of the hooks are the tests', the tables are current."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.docs import manifests
from tests.unit.docs.markdown import ROOT


def test_the_tables_of_the_configuration_are_up_to_date():
    ran = subprocess.run([sys.executable, "hack/config-table.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.fixture
def hooks() -> list[dict[str, object]]:
    (document,) = manifests.load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [one["repo"] for one in document["repos"]] == ["local"]
    found: list[dict[str, object]] = document["repos"][0]["hooks"]
    return found


def test_the_hooks_before_a_commit_are_those_of_the_tests(hooks: list[dict[str, object]], tmp_path: Path):
    assert [one["id"] for one in hooks] == ["ruff", "ruff-format", "mypy"]
    script = (ROOT / "hack" / "test.sh").read_text()
    for one in hooks:
        assert one["language"] == "system"
        assert one["pass_filenames"] is False
        command = re.search(r'/venv(/bin/[a-z]+)"(.*)\'$', str(one["entry"]))
        assert command is not None
        assert f'"$bin{command[1].removeprefix("/bin")}"{command[2]}' in script, command[0]
    (tmp_path / "venv").symlink_to(sys.prefix)
    checked = tmp_path / "checked"
    checked.mkdir()
    (checked / "one.py").write_text('"""A module."""\n')
    environment = {**os.environ, "POUCHRICH_CACHE": str(tmp_path)}
    for one in hooks:
        words = [*shlex.split(str(one["entry"]))]
        if one["id"] == "mypy":  # what it is to look at is in pyproject.toml
            words[2] = f"{words[2]} one.py"
        ran = subprocess.run(words, cwd=checked, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
