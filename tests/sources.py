"""The project's own modules, as its tests look at them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RELATIVE = re.compile(r"^[ \t]*from\s+\.", re.MULTILINE)


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    """A file's path as everyone writes it: from the checkout's root."""
    return str(path.relative_to(ROOT))


@cache
def text(path: Path) -> str:
    """A module as it is written."""
    return path.read_text(encoding="utf-8")


def nodes(path: Path, *words: str) -> Iterator[ast.AST]:
    """Everything in a module; nothing, if `words` are given and its text has none of them.

    Not kept: all modules' together would be what each garbage collection goes through.
    """
    written = text(path)
    if words and not any(word in written for word in words):
        return iter(())
    return ast.walk(ast.parse(written))


def statements(path: Path) -> Iterator[ast.AST]:
    """The statements of a module, those within others too: a tenth of its nodes."""
    todo: list[ast.AST] = [ast.parse(text(path))]
    for one in todo:
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(one, block, [])
            todo += inner if isinstance(inner, list) else []  # of an expression it is one, and holds no statement
        yield one


@cache
def imports(path: Path) -> frozenset[str]:
    """What a module imports, wherever it does: `os.path` and `os.path.join` for `from os.path import join`."""
    found = set[str]()
    for node in statements(path):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: relative import"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def imports_any(path: Path, *packages: str) -> set[str]:
    """Those of a module's imports that are `packages` or of them; none, if it does not even have a package's words."""
    written = text(path)
    assert not RELATIVE.search(written), f"{name(path)}: relative import"
    if not any(all(word in written for word in package.split(".")) for package in packages):
        return set()
    return {found for found in imports(path) if any(found == one or found.startswith(f"{one}.") for one in packages)}


@cache
def texts(path: Path) -> frozenset[str]:
    """The literals of a module, without its documentation."""
    documentation, found = set[int](), list[ast.Constant]()
    for node in nodes(path):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation.add(id(node.value))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node)
    return frozenset(str(node.value) for node in found if id(node) not in documentation)
