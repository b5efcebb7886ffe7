"""Tables that are too wide for a terminal, as blocks of columns. No figure in them is cut.

    distance   uniform    exact   difference          distance   uniform    exact
         128    3.1416   3.0000      -0.1416               128    3.1416   3.0000

                                                      distance   difference
                                                           128      -0.1416

Columns aligned right have figures: they are as wide as the longest, and their headings are folded.
The others have text, which is folded where the room ends. The first column stands in every block.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

__all__ = ["fits", "fitted"]

NARROWEST = 12
"""Characters of a column of text, if it needs as many."""
LONGEST_WORD = 24
"""Longer words are folded where the room ends; figures have fewer characters."""


def fits(table: "Table", console: "Console") -> bool:
    """Whether a table is no wider than the console, with nothing folded."""
    return _natural(table, console) <= console.width


def fitted(table: "Table | Text", console: "Console") -> "Iterator[Table | Text]":
    """Yields a table, or it in as few blocks of columns as the console has room for.

    Args:
        table: its cells are text; or text, which is yielded as it is.
        console: where it is printed.
    """
    from rich.table import Table

    if not isinstance(table, Table) or fits(table, console):
        yield table
        return
    blocks = _blocks(table, console)
    for number, columns in enumerate(blocks):
        block = _of(table, columns)
        if number:
            block.title = None
        if number < len(blocks) - 1:
            block.caption = None
        yield block


def _natural(table: "Table", console: "Console") -> int:
    """The width of a table of which nothing is folded, but its title."""
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _blocks(table: "Table", console: "Console") -> "list[list[Column]]":
    """The columns of each block; all of them have the first one, and at least one more."""
    first, *others = table.columns
    blocks = [[first]]
    for column in others:
        if len(blocks[-1]) > 1 and _width(table, [*blocks[-1], column], console) > console.width:
            blocks.append([first])
        blocks[-1].append(column)
    return blocks


def _width(table: "Table", columns: "Sequence[Column]", console: "Console") -> int:
    """The smallest width of a table with some of its columns."""
    return _natural(_of(table, columns, narrow=True), console)


def _of(table: "Table", columns: "Sequence[Column]", *, narrow: bool = False) -> "Table":
    """A table with some of its columns.

    Args:
        table: the whole one.
        columns: of it.
        narrow: whether text gets the least room; otherwise rich folds it into the room there is.
    """
    from rich.table import Table

    made = Table(
        title=None if narrow else table.title,
        caption=None if narrow else table.caption,
        title_justify=table.title_justify,
        caption_justify=table.caption_justify,
        box=table.box,
        padding=table.padding,
        pad_edge=table.pad_edge,
        show_edge=table.show_edge,
    )
    for column in columns:
        is_figure = column.justify == "right"
        made.add_column(
            column.header,
            justify=column.justify,
            overflow="fold",
            style=column.style,
            width=_least(column) if narrow or is_figure else None,
        )
    cells = [list(column.cells) for column in columns]
    for number, row in enumerate(table.rows):
        made.add_row(
            *(each[number] for each in cells), style=row.style, end_section=row.end_section
        )
    return made


def _least(column: "Column") -> int:
    """The width below which a column would cut a figure, or more of a text than need be."""
    cells, heading = [_text(cell) for cell in column.cells], _text(column.header)
    if column.justify == "right":
        return max(map(_widest, [*cells, *_words(heading)]), default=0)
    texts = [*cells, heading]
    words = [min(LONGEST_WORD, _widest(word)) for text in texts for word in _words(text)]
    return max([min(NARROWEST, max(map(_widest, texts))), *words])


def _words(text: str) -> list[str]:
    """The words of a text; long ones in the pieces that may stand below each other."""
    return [
        word[at : at + LONGEST_WORD]
        for word in text.split()
        for at in range(0, len(word), LONGEST_WORD)
    ]


def _text(cell: Any) -> str:
    """A cell as it is printed."""
    return printable(cell if isinstance(cell, str) else cell.plain)


def _widest(text: str) -> int:
    """Columns of a terminal that the longest line of a text takes."""
    from rich.cells import cell_len

    return max(map(cell_len, text.splitlines() or [""]))
