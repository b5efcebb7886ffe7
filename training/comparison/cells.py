"""What tables of paired differences have in common."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from .endpoints import Finding

__all__ = ["borderless", "interval_cells", "signed"]


def borderless(title: str, caption: str, first: str) -> Table:
    """A table without vertical lines, with its first column: figures need the room."""
    table = Table(
        title=title,
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column(first, overflow="fold")
    return table


def interval_cells(found: Finding) -> tuple[str, str]:
    """A difference with its interval over seeds, and its interval over items."""
    over_seeds = "" if found.over_seeds is None else f" ± {found.over_seeds:.4f}"
    low, high = found.over_items
    return f"{signed(found.delta)}{over_seeds}", f"[{signed(low)}, {signed(high)}]"


def signed(value: float) -> str:
    """Four decimals with a sign."""
    return f"{round(value, 4) + 0.0:+.4f}"  # no -0.0000
