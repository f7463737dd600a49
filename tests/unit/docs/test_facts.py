"""What the documents name is there: files, links, tests, keys; and they keep their form."""

import re
from functools import cache
from pathlib import Path

import pytest

from runtime.config.schema import KEYS, SECTIONS, TABLES
from shim.task.hooks import poststop
from tests.sources import modules
from tests.unit.docs import markdown
from tests.unit.docs.markdown import ROOT

README_LINES = 150
COLUMNS = 120
CHANGELOG_GROUPS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
HOMES = (
    "shim",
    "runtime",
    "pouchrich",
    "launcher",
    "native",
    "heap",
    "protos",
    "hack",
    "tests",
    "docs",
    "examples",
    ".ci",
)
PROMISES = (
    ("security.md", ("Threat", "What happens"), 20),
    ("failures.md", ("Killed", "What happens"), 20),
    ("containerd.md", ("containerd", "Ours"), 20),
    ("failures.md", ("Message", "What it means, and the way out"), 10),
)
pages = pytest.mark.parametrize("page", markdown.PAGES, ids=markdown.name)


@cache
def known_tests() -> frozenset[str]:
    """By their lines: all test modules parsed take longer than a test may, where the machine is busy."""
    found: set[str] = set()
    for path in modules(*(f"tests/{tier}" for tier in ("unit", "process", "component", "root", "integration", "fuzz"))):
        if path.name.startswith("test_"):
            found |= set(re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE))
    return frozenset(found)


def test_the_readme_can_be_read_to_the_end():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pages
def test_lines_fit(page: Path):
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    in_blocks = {
        block.line + number for block in markdown.blocks_of(page) for number in range(block.text.count("\n") + 1)
    }
    long = [number for number, line in lines if len(line) > COLUMNS and line[0] != "|" and number not in in_blocks]
    assert long == []


@pages
def test_a_page_has_one_title_and_no_heading_twice(page: Path):
    headings = re.findall(r"^(#+) (.+)$", markdown.prose(page), re.MULTILINE)
    assert [title for level, title in headings if level == "#"] == [headings[0][1]]
    if page.name != "CHANGELOG.md":  # whose groups come with each version
        assert len(headings) == len(set(headings))


@pages
def test_links_lead_somewhere(page: Path):
    for link in markdown.links(page):
        path, _, anchor = link.partition("#")
        assert "://" not in path, f"{link}: not relative"
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in markdown.anchors(target), link


@pages
def test_paths_exist(page: Path):
    for span in markdown.spans(page):
        path = span.split()[0]
        if path.partition("/")[0] in HOMES and "/" in path:
            assert (ROOT / path).exists(), span
            assert (ROOT / path).is_dir() == path.endswith("/") or path.startswith("tests/"), span
        else:  # a module without its folder could be anywhere, and would be checked by nobody
            assert path.startswith("/") or re.search(r"\.(py|c|sh)$", path) is None, span


def test_every_document_is_linked_from_the_readme_and_every_example_from_theirs():
    linked = {ROOT / "README.md"}
    for page in (ROOT / "README.md", markdown.EXAMPLES / "README.md"):
        linked |= {(page.parent / link.partition("#")[0]).resolve() for link in markdown.links(page)}
    assert set(markdown.PAGES) <= linked


@pytest.mark.parametrize(("page", "head", "least"), PROMISES)
def test_each_promise_has_its_test(page: str, head: tuple[str, str], least: int):
    rows = markdown.rows(ROOT / "docs" / page, *head)
    assert len(rows) > least
    for row in rows:
        assert len(row) == 3, row
        assert all(row), row
        names = re.fullmatch(r"`(\w+)`(?:, `(\w+)`)*", row[2])
        assert names is not None, row
        for one in re.findall(r"\w+", row[2]):
            assert f"test_{one}" in known_tests(), row


@pages
def test_keys_of_the_configuration_exist(page: Path):
    names = (
        {key.name for key in KEYS}
        | set(SECTIONS)
        | {f"{where}.{key.name}" for where, keys in TABLES.items() for key in keys}
    )
    for span in markdown.spans(page):
        for key in re.findall(rf"^((?:{'|'.join(SECTIONS)})\.[a-z0-9-]+)\b(?!/)", span):
            assert key in names, span


def test_the_changelog_keeps_its_form():
    text = markdown.prose(ROOT / "CHANGELOG.md")
    assert re.search(r"^## \[Unreleased\]$", text, re.MULTILINE)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= CHANGELOG_GROUPS
    for version in re.findall(r"^## (.+)$", text, re.MULTILINE):
        assert re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version)


@pytest.mark.parametrize("life", ["Create", "exit", "systemd start"])
def test_a_life_is_a_path_of_at_most_fifteen_steps(life: str):
    text = markdown.prose(ROOT / "docs" / "architecture.md")
    told = re.split(r"^## ", text.split(f"\n## The life of a{'n' if life == 'exit' else ''} {life}\n")[1], flags=re.M)[
        0
    ]
    steps = re.split(r"^\d+\. ", told, flags=re.MULTILINE)[1:]
    assert [int(one) for one in re.findall(r"^(\d+)\. ", told, re.MULTILINE)] == list(range(1, len(steps) + 1))
    assert 5 <= len(steps) <= 15
    named = [step for step in steps if re.search(r"`(shim|runtime|launcher)/", step)]
    assert len(named) >= len(steps) - 1


@pytest.mark.parametrize("page", ["operations.md", "hooks-agents-services.md"])
def test_where_hooks_are_logged_that_no_pod_server_runs_is_said(page: str):
    assert f"`journalctl -t {poststop.TAG}`" in " ".join((ROOT / "docs" / page).read_text().split())
