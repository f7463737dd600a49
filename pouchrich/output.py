"""What the commands print: a document of headings, lines and tables, as plain text or, on a terminal, in colour.

Much of what is shown was written in a container: names of processes, annotations, error texts. All text passes
`clean`, so that none of it reaches the terminal as a control sequence; and nothing is taken for markup.
"""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

STYLES = {"good": "green", "warn": "yellow", "bad": "bold red", "dim": "dim", "strong": "bold", "": ""}
"""The styles of a Span, and what the rich library calls them."""

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Span:
    """Some text of a line or the whole of a table's cell; `style` is one of STYLES."""

    text: str
    style: str = ""


Cell = Span | str


@dataclass(frozen=True, slots=True)
class Line:
    """Spans one after the other."""

    spans: tuple[Cell, ...] = ()
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under `heads`; the columns of which `right` has the index are aligned to the right."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int] = frozenset()
    indent: int = 0


Block = Line | Table


def line(*spans: Cell, indent: int = 0) -> Line:
    """A line of these spans."""
    return Line(spans, indent)


def heading(text: str) -> Line:
    """A line above others."""
    return Line((Span(text, "strong"),))


def clean(text: str) -> str:
    r"""`text` with everything that does not print written as an escape: `\x1b`, `\n`, `\u202e`."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _span(cell: Cell) -> Span:
    return Span(clean(cell), "") if isinstance(cell, str) else Span(clean(cell.text), cell.style)


def _plain_table(table: Table) -> Iterable[str]:
    rows = [table.heads, *([_span(cell).text for cell in row] for row in table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heads))]
    for row in rows:
        cells = (
            text.rjust(width) if column in table.right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield " " * table.indent + _GAP.join(cells).rstrip()


def plain(document: Iterable[Block]) -> str:
    """The document as text, each line with its newline."""
    lines: list[str] = []
    for block in document:
        if isinstance(block, Table):
            lines += _plain_table(block)
        else:
            lines.append((" " * block.indent + "".join(_span(one).text for one in block.spans)).rstrip())
    return "".join(f"{one}\n" for one in lines)


def coloured(document: Iterable[Block], *, width: int) -> str:
    """The document for a terminal of `width` columns, which wraps long lines under their beginnings."""
    # Only a terminal pays for the library's import.
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    def text(cell: Cell) -> Text:
        span = _span(cell)
        return Text(span.text, style=STYLES[span.style])

    buffer = io.StringIO()
    console = Console(file=buffer, force_terminal=True, width=width, highlight=False, markup=False, emoji=False)
    for block in document:
        if isinstance(block, Line):
            console.print(Padding(Text().join(map(text, block.spans)), (0, 0, 0, block.indent), expand=False))
            continue
        table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column, head in enumerate(block.heads):
            table.add_column(head, justify="right" if column in block.right else "left", overflow="fold")
        for row in block.rows:
            table.add_row(*map(text, row))
        console.print(Padding(table, (0, 0, 0, block.indent), expand=False))
    return buffer.getvalue()


def show(document: Iterable[Block], stream: TextIO | None = None) -> None:
    """Print the document: in colour where `stream` (default standard output) is a terminal."""
    stream = stream or sys.stdout
    if stream.isatty():
        import shutil

        stream.write(coloured(document, width=shutil.get_terminal_size().columns))
    else:
        stream.write(plain(document))


def show_json(value: Any, *, stream: TextIO | None = None, compact: bool = False) -> None:
    """Print `value` as JSON: indented, or with `compact` on one line. Keys keep their order."""
    stream = stream or sys.stdout
    stream.write(json.dumps(value, indent=None if compact else 2) + "\n")
    stream.flush()


def size(number: int | None) -> str:
    """Bytes for people, in powers of 1024: `812K`, `24.1M`."""
    if number is None:
        return "-"
    value = float(number)
    for unit in ("", "K", "M", "G"):
        if value < 1024:
            return f"{value:.0f}{unit}" if unit in ("", "K") or value >= 100 else f"{value:.1f}{unit}"
        value /= 1024
    return f"{value:.1f}T"


def age(seconds: float | None) -> str:
    """A time span for people, its two largest units: `3d4h`, `5m10s`, `7s`."""
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
    """A share of one CPU."""
    return "-" if value is None else f"{value:.1f}"


def listing(items: Sequence[str]) -> str:
    """Words for people, or `none`."""
    return ", ".join(items) or "none"
