"""A terminal to print on: tables, lines and bars, in the width and characters that it has."""

from collections.abc import Callable

from rich.box import SIMPLE_HEAD, Box
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table

from ....schemas.fitting import fits, fitted
from ...terminal import bar

__all__ = ["TAIL_STYLE", "Printer"]

TAIL_STYLE = "cyan"
WIDEST_BAR = 16
NARROWEST_BAR = 3
ASCII_BOX = Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)


class Printer:
    """Prints on a console of rich."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ascii = console.options.ascii_only

    def line(self, text: str = "") -> None:
        """Prints a paragraph."""
        self._console.print(text)

    def verbatim(self, text: str) -> None:
        """Prints a line that may be copied: it is not folded."""
        self._console.print(text, soft_wrap=True)

    def table(self, table: Table) -> None:
        """Prints a table, in blocks of columns if it is too wide."""
        for part in fitted(table, self._console):
            self._console.print(part)

    def table_with_bars(self, table: Callable[[int], Table], bars: int) -> None:
        """Prints a table whose bars are as wide as there is room for.

        Args:
            table: makes the table, given the width of a bar.
            bars: how many columns of bars it has.
        """
        room = (self._console.width - self._width_of(table(0))) // bars
        self.table(table(max(NARROWEST_BAR, min(WIDEST_BAR, room))))

    def fits(self, table: Table) -> bool:
        """Whether a table is no wider than the console."""
        return fits(table, self._console)

    def _width_of(self, table: Table) -> int:
        wide: ConsoleOptions = self._console.options.update(width=10_000)
        return Measurement.get(self._console, wide, table).maximum

    def bar(self, value: float, largest: float, width: int) -> str:
        """A bar of up to `width` characters."""
        return bar(value, largest, width, ascii_only=self._ascii)

    def new_table(self, *columns: str) -> Table:
        """An empty table.

        The first column and those whose title begins with `<` are aligned left, the others right.
        """
        box = ASCII_BOX if self._ascii else SIMPLE_HEAD
        table = Table(box=box, pad_edge=False, padding=0, show_edge=False)
        for i, column in enumerate(columns):
            left = i == 0 or column.startswith("<")
            table.add_column(
                column.removeprefix("<"), justify="left" if left else "right", no_wrap=True
            )
        return table
