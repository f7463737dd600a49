"""Libraries of the operator's command are loaded by what needs them alone, and never by what runs containers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("rich", "pouchrich/output.py"),
        ("tomlkit", "pouchrich/commands/configuring.py"),
        ("prometheus_client", "pouchrich/prometheus.py"),
    ],
)
def test_only_one_module_of_the_operators_command_names_it(library, module):
    naming = {
        str(path.relative_to(ROOT))
        for package in ("shim", "runtime", "pouchrich")
        for path in (ROOT / package).rglob("*.py")
        if library in imported(path)
    }
    assert naming == {module}


def test_nobody_imports_the_operators_command():
    for package in ("shim", "runtime"):
        assert not [path for path in (ROOT / package).rglob("*.py") if "pouchrich" in imported(path)]


def test_plain_output_does_not_load_it():
    script = "import sys; sys.path.insert(0, sys.argv[1]); from pouchrich.__main__ import main; main(['version'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; assert 'rich' not in sys.modules", str(ROOT)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
