"""The list of modules in a package's docstring has all modules of its folder, and no others."""

import ast
import re
from pathlib import Path

import pytest

from tests.sources import modules, name

# A line `name, other  what they do`: two spaces at least before the words.
ENTRY = re.compile(r"^ *((?:\w+, )*\w+) {2,}\S", re.MULTILINE)


def listed(package: Path) -> set[str]:
    entries = ENTRY.findall(ast.get_docstring(ast.parse(package.read_text()), clean=False) or "")
    return {one for entry in entries for one in entry.split(", ")}


def present(package: Path) -> set[str]:
    return {path.stem for path in package.parent.glob("*.py")} - {"__init__", "__main__"}


PACKAGES = [path for path in modules("shim", "runtime", "pouchrich") if path.name == "__init__.py"]
WITH_LIST = [path for path in PACKAGES if listed(path) & present(path)]


@pytest.mark.parametrize("package", WITH_LIST, ids=name)
def test_a_list_of_modules_is_whole(package: Path):
    assert listed(package) == present(package)


def test_there_are_such_lists():
    assert len(WITH_LIST) >= 15
