"""Libraries of the operator's command are loaded by what needs them alone, and never by what runs containers."""

import subprocess
import sys

import pytest

from tests.sources import ROOT, imports_any, modules, name


@pytest.mark.parametrize(
    ("library", "module"),
    [
        ("rich", "pouchrich/output.py"),
        ("tomlkit", "pouchrich/commands/configuring.py"),
        ("prometheus_client", "pouchrich/prometheus.py"),
    ],
)
def test_only_one_module_of_the_operators_command_names_it(library, module):
    naming = {name(path) for path in modules("shim", "runtime", "pouchrich") if imports_any(path, library)}
    assert naming == {module}


def test_nobody_imports_the_operators_command():
    assert not [path for path in modules("shim", "runtime") if imports_any(path, "pouchrich")]


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
