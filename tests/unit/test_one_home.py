"""What several modules need is written down in one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path for name in ("shim", "runtime", "pouchrich") for path in (ROOT / name).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def texts(path: Path) -> Iterator[str]:
    """The literals of a module, without its documentation."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        (r"io\.kubernetes\.", {"runtime/spec/cri.py"}),
        (r"/usr/local/sbin:", {"runtime/default_path.py"}),
    ],
)
def test_a_name_is_written_in_one_place(pattern, homes):
    assert {name(path) for path in MODULES if any(re.search(pattern, text) for text in texts(path))} == homes
