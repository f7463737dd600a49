"""Tables that fit a width: less important columns are left out, and long cells are cut, never folded."""

from collections.abc import Sequence
from typing import NamedTuple

from pouchrich.output import Cell, Span, Table, cells, clean

CUT = "\N{HORIZONTAL ELLIPSIS}"
_GAP = 2


class Column(NamedTuple):
    """A column. The columns with the highest `rank` are left out first, those with rank 0 never. `least`: the width
    that it may be cut to; 0: never cut. `middle`: cut in the middle, because both ends distinguish names."""

    head: str
    rank: int = 0
    least: int = 0
    right: bool = False
    middle: bool = False


def cut(text: str, width: int, *, middle: bool = False) -> str:
    """`text` in at most `width` terminal cells, with CUT in place of its end or middle."""
    if cells(text) <= width:
        return text
    end = (width - 1) // 2 if middle else 0
    tail = _begin(text[::-1], end)[::-1]
    return f"{_begin(text, max(0, width - 1 - end))}{CUT}{tail}"


def _begin(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    taken = 0
    for at, one in enumerate(text):
        taken += cells(one)
        if taken > width:
            return text[:at]
    return text


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, width: int | None) -> Table:
    """The rows as a table of at most `width` terminal cells, if possible; None: of any width, with nothing left out."""
    texts = [[clean(cell if isinstance(cell, str) else cell.text) for cell in row] for row in rows]
    widths = [max([cells(column.head), *(cells(row[at]) for row in texts)]) for at, column in enumerate(columns)]
    shown = list(range(len(columns)))
    while width is not None and sum(widths[at] for at in shown) + _GAP * (len(shown) - 1) > width:
        over = sum(widths[at] for at in shown) + _GAP * (len(shown) - 1) - width
        # First cut the columns that may be cut, those with the most room first.
        room = {
            at: widths[at] - columns[at].least for at in shown if columns[at].least and widths[at] > columns[at].least
        }
        droppable = [at for at in shown if columns[at].rank]
        if sum(room.values()) >= over or not droppable:
            for at in sorted(room, key=lambda one: -room[one]):
                given = min(over, room[at])
                widths[at] -= given
                over -= given
            break
        shown.remove(max(droppable, key=lambda one: columns[one].rank))
    cut_rows = tuple(
        tuple(_cut(row[at], text[at], widths[at], columns[at]) for at in shown)
        for row, text in zip(rows, texts, strict=True)
    )
    right = frozenset(position for position, at in enumerate(shown) if columns[at].right)
    return Table(tuple(columns[at].head for at in shown), cut_rows, right)


def _cut(cell: Cell, text: str, width: int, column: Column) -> Cell:
    short = cut(text, width, middle=column.middle)
    return short if isinstance(cell, str) else Span(short, cell.style)
