"""Tables in the room that there is: no figure is cut, no column is lost."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exactcpt.schemas.fitting import fits, fitted

FIGURES = st.floats(-1e9, 1e9).map("{:+,.4f}".format) | st.integers(0, 10**15).map("{:,}".format)
WORDS = st.text("abcdefgh äß漢\u200f", min_size=1, max_size=70)
COLUMNS = st.lists(st.tuples(WORDS, st.booleans()), max_size=9)


def console(width: int) -> Console:
    return Console(width=width, record=True, file=io.StringIO())


def shown(table: Table, width: int) -> tuple[list[Table | Text], str]:
    out = console(width)
    parts = list(fitted(table, out))
    for part in parts:
        out.print(part)
    return parts, out.export_text()


def made(columns, rows: int, data, box) -> tuple[Table, list[str]]:
    table, figures = Table(title="a title", caption="a caption", box=box), []
    table.add_column("first")
    for heading, is_figure in columns:
        table.add_column(heading, justify="right" if is_figure else "left", no_wrap=is_figure)
    for row in range(rows):
        cells = [data.draw(FIGURES if is_figure else WORDS) for _, is_figure in columns]
        figures += [cell for cell, (_, is_figure) in zip(cells, columns, strict=True) if is_figure]
        table.add_row(f"row {row}", *cells, end_section=row == 0)
    return table, figures


@given(columns=COLUMNS, rows=st.integers(1, 3), width=st.integers(60, 200), data=st.data(),
       box=st.sampled_from([SIMPLE_HEAD, None]))  # fmt: skip
def test_no_figure_is_cut_and_no_column_lost(columns, rows, width, data, box):
    table, figures = made(columns, rows, data, box)
    parts, text = shown(table, width)
    assert "…" not in text
    assert max(map(cell_len, text.splitlines())) <= width
    for figure in figures:
        assert re.search(rf"(?<!\S){re.escape(figure)}(?!\S)", text), figure
    headings = [column.header for part in parts for column in part.columns]
    assert [h for h in headings if h != "first"] == [heading for heading, _ in columns]
    assert all(part.columns[0].header == "first" for part in parts)
    letters = "".join(text.split())  # of a title that is folded too
    assert (letters.count("atitle"), letters.count("acaption")) == (1, 1)
    if fits(table, console(width)):
        assert parts == [table]


def test_text_gives_way_to_figures():
    """A table may be as wide as the console only by folding text: figures keep their room."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("text")
    for heading in ("difference", "over items"):
        table.add_column(heading, justify="right")
    table.add_row("some words that can stand below each other", "+0.1234 ± 0.0012", "[-1.5, +1.5]")
    for width in range(30, 100):
        text = shown(table, width)[1]
        assert "+0.1234 ± 0.0012" in text and "[-1.5, +1.5]" in text, width


def test_a_block_has_all_rows_and_their_lines():
    table = Table(title="t", caption="c", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("distance")
    for arm in ("uniform", "exact"):
        table.add_column(f"{arm} with a long heading", justify="right", style="cyan")
    table.add_row("all", "1.0000", "2.0000 ± 1.0000", end_section=True)
    table.add_row(Text("131,072 *"), "3.0000", "4.0000 ± 1.0000", style="yellow")
    one, two = shown(table, 32)[0]
    assert isinstance(one, Table) and isinstance(two, Table)
    assert (one.title, one.caption, two.title, two.caption) == ("t", None, None, "c")
    assert [(row.style, row.end_section) for row in two.rows] == [(None, True), ("yellow", False)]
    assert [column.style for column in two.columns] == ["", "cyan"]
    lines = [line.split() for line in shown(table, 32)[1].splitlines() if line.strip()]
    assert ["131,072", "*", "3.0000"] in lines
    assert ["131,072", "*", "4.0000", "±", "1.0000"] in lines


def test_what_is_no_table_passes():
    text = Text("not a table")
    assert list(fitted(text, console(3))) == [text]
