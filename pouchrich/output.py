"""What the commands print: a document of headings, lines and tables, as plain text or, on a terminal, in colour.

Much of the text comes from containers: names of processes, annotations, error texts. All text passes `clean`, so that
no control sequence reaches the terminal, and nothing is interpreted as markup.
"""

import io
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TextIO

STYLES = {"good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim", "strong": "bold", "": ""}
"""Style of a Span -> its name in the rich library."""

_GAP = "  "


class Span(NamedTuple):
    """A part of a line, or a whole cell of a table; `style` is one of STYLES."""

    text: str
    style: str = ""


Cell = Span | str


class Line(NamedTuple):
    """A line of consecutive spans."""

    spans: tuple[Cell, ...] = ()
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under `heads`; `right` has the indices of right-aligned columns.

    `below` maps the index of a row to the lines below it.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int] = frozenset()
    indent: int = 0
    below: Mapping[int, tuple[Line, ...]] = field(default_factory=dict)


Block = Line | Table


def line(*spans: Cell, indent: int = 0) -> Line:
    """A line of these spans."""
    return Line(spans, indent)


def heading(text: str) -> Line:
    """A heading line."""
    return Line((Span(text, "strong"),))


def clean(text: str) -> str:
    r"""`text` with every unprintable character replaced by an escape: `\x1b`, `\n`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def cells(text: str) -> int:
    """How many terminal cells printable text takes; an ideogram takes two (Unicode's annex 11)."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width_of(stream: TextIO) -> int | None:
    """The width to print for: the terminal's or $COLUMNS; None for no limit."""
    if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return None


def _span(cell: Cell) -> Span:
    return Span(clean(cell), "") if isinstance(cell, str) else Span(clean(cell.text), cell.style)


def _lines(document: Iterable[Block]) -> Iterable[tuple[Span, ...]]:
    """The document as lines of clean spans; cells of tables are padded to their columns."""
    for block in document:
        if isinstance(block, Line):
            yield (Span(" " * block.indent), *map(_span, block.spans))
        else:
            yield from _table_lines(block)


def _table_lines(table: Table) -> Iterable[tuple[Span, ...]]:
    rows = [tuple(map(_span, row)) for row in table.rows]
    heads = tuple(Span(head, "strong") for head in table.heads)
    widths = [max(cells(row[column].text) for row in (heads, *rows)) for column in range(len(heads))]
    for number, row in enumerate((heads, *rows)):
        spans = [Span(" " * table.indent)]
        for column, (span, width) in enumerate(zip(row, widths, strict=True)):
            blank = Span(" " * (width - cells(span.text)))
            spans += [blank, span] if column in table.right else [span, blank]
            spans.append(Span(_GAP))
        yield tuple(spans)
        for one in table.below.get(number - 1, ()):
            yield (Span(" " * (table.indent + one.indent)), *map(_span, one.spans))


def plain(document: Iterable[Block]) -> str:
    """The document as text, each line with its newline."""
    return "".join("".join(span.text for span in spans).rstrip() + "\n" for spans in _lines(document))


def coloured(document: Iterable[Block], *, width: int) -> str:
    """The document for a terminal of `width` columns, which wraps long lines between words, under their beginnings."""
    # Only a terminal pays for the library's import.
    from rich.console import Console
    from rich.text import Text

    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, width=width, highlight=False, markup=False, emoji=False)
    for spans in _lines(document):
        text = Text().join(Text(span.text, style=STYLES[span.style]) for span in spans)
        text.rstrip()
        parts = [text]
        if cells(text.plain) > width:
            indent = len(text.plain) - len(text.plain.lstrip(" ")) + 2
            first, *rest = text[indent - 2 :].wrap(console, max(20, width - indent))
            parts = [Text(" " * (indent - 2)) + first, *(Text(" " * indent) + one for one in rest)]
        for one in parts:
            console.print(one, soft_wrap=True)
    return buffer.getvalue()


def show(document: Iterable[Block], stream: TextIO | None = None) -> None:
    """Print the document: in colour where `stream` (default standard output) is a terminal."""
    stream = stream or sys.stdout
    if stream.isatty():
        stream.write(coloured(document, width=shutil.get_terminal_size().columns))
    else:
        stream.write(plain(document))


def show_json(value: Any, *, compact: bool = False) -> None:
    """Print `value` as JSON: indented, or with `compact` on one line. Keys keep their order."""
    sys.stdout.write(json.dumps(value, indent=None if compact else 2) + "\n")
    sys.stdout.flush()


def size(number: int | None) -> str:
    """Format bytes in powers of 1024: `812K`, `24.1M`."""
    if number is None:
        return "-"
    value = float(number)
    for unit in ("", "K", "M", "G"):
        if value < 1024:
            return f"{value:.0f}{unit}" if unit in ("", "K") or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


def age(seconds: float | None) -> str:
    """Format a time span by its two largest units: `3d4h`, `5m10s`, `7s`."""
    if seconds is None:
        return "-"
    left = max(0, int(seconds))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, length)
        parts.append((count, unit))
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return "".join(f"{count}{unit}" for count, unit in parts[first : first + 2])


def percent(value: float | None) -> str:
    """Format a share of one CPU."""
    return "-" if value is None else f"{value:.1f}"
