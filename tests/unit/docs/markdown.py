"""The documents of this repository, taken apart: fenced blocks, spans of code, links, headings, tables.

As much of Markdown as they are written in: fences of three back quotes, headings with #, tables with | at both ends.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *EXAMPLES.rglob("*.md")])

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name(page: Path) -> str:
    """As a test's parameter."""
    return str(page.relative_to(ROOT))


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `line` is that of its first line in the page, from 1."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, text[: one.start(2)].count("\n") + 1, one[1], one[2]) for one in _FENCE.finditer(text)]


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of all pages in these languages."""
    return [one for page in PAGES for one in blocks_of(page) if one.language in languages]


def files(suffix: str) -> list[Block]:
    """The files of the examples that end so, each as one block; `suffix` names the language too."""
    return [Block(path, 1, suffix, path.read_text()) for path in sorted(EXAMPLES.rglob(f"*.{suffix}"))]


@cache
def prose(page: Path) -> str:
    """A page without its fenced blocks; the lines keep their numbers."""
    return _FENCE.sub(lambda found: "\n" * found[0].count("\n"), page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands in code font outside of blocks, on one line each."""
    return [" ".join(one.split()) for one in _SPAN.findall(prose(page))]


def links(page: Path) -> list[str]:
    """The targets of links."""
    return _LINK.findall(_SPAN.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """What a link's #part may name: the headings, as GitHub spells them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def rows(page: Path, *head: str) -> list[list[str]]:
    """The rows of the tables whose head begins with these cells."""
    found: list[list[str]] = []
    for table in _tables(page):
        if table[0][: len(head)] == list(head):
            found += table[2:]
    return found


def _tables(page: Path) -> Iterator[list[list[str]]]:
    table: list[list[str]] = []
    for line in [*prose(page).splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif table:
            yield table
            table = []
