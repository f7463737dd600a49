"""Libraries of the operator's command are loaded by what needs them alone, and never by what runs containers."""

import pytest

from tests.sources import imports_any, modules, name


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
