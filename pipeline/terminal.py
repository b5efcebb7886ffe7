"""Output to a terminal: messages, tables, bars, sizes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..schemas.terminal import console

__all__ = ["Console", "bar", "plain_table", "size"]


class Console:
    """Prints messages on stderr, or nothing if it is told to be quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.rich: Any = console(stderr=True, quiet=quiet, soft_wrap=True)

    def say(self, text: str) -> None:
        """Prints a line."""
        self.rich.print(text)

    def warn(self, text: str) -> None:
        """Prints a warning."""
        self.rich.print(f"warning: {text}", style="yellow")

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Shows on a terminal what is done while a block runs; the line goes when it is done."""
        if not self.rich.is_terminal or self.rich.quiet:
            yield
            return
        from rich.live import Live
        from rich.text import Text

        line = Text(what, no_wrap=True, overflow="crop")
        with Live(
            line,
            console=self.rich,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live:
            live.refresh()
            yield

    def show(self, tables: Iterable[Any]) -> None:
        """Prints tables."""
        for table in tables:
            self.rich.print(table)


BAR_WIDTH = 16


def bar(value: float, largest: float, width: int = BAR_WIDTH, *, ascii_only: bool = False) -> str:
    """A bar whose length is proportional to a value, to an eighth of a character.

    Args:
        value: what the bar shows.
        largest: the value that gets the whole width.
        width: in characters.
        ascii_only: whether to draw whole characters, in ASCII.
    """
    eighths = round(width * 8 * value / largest) if largest else 0
    if ascii_only:
        return "#" * round(eighths / 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def size(count: float) -> str:
    """A number of bytes in decimal units: "433.4 KB"."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def plain_table(*columns: str) -> Any:
    """An empty table with these headings, its first column left-aligned, the others right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    return table
