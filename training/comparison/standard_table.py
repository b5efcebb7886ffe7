"""The scores of `standard`, arm against baseline, as a table for a person."""

from collections.abc import Sequence

from rich.table import Table

from .cells import borderless, interval_cells
from .standard_endpoints import StandardEndpoint

__all__ = ["standard_table"]


def standard_table(
    rows: Sequence[StandardEndpoint], seeds: int, baseline: str, others: Sequence[str]
) -> Table:
    """The scores of the baseline and of some other arms, by task."""
    table = borderless("standard: mean scores", _caption(rows, seeds), "task")
    has_floor = any(row.floor is not None for row in rows)
    headings = [h for arm in others for h in (arm, "over items")]
    for heading in ("items", baseline, *(["floor"] if has_floor else []), *headings):
        table.add_column(heading, justify="right")
    for number, row in enumerate(rows, 1):
        floor = [f"{row.floor:.4f}"] if row.floor is not None else []
        cells = [cell for arm in others for cell in interval_cells(row.arms[arm])]
        last_task = number < len(rows) and rows[number].metric is None
        table.add_row(
            _label(row, rows), f"{row.items:,}", f"{row.baseline:.4f}", *floor, *cells,
            end_section=last_task,
        )  # fmt: skip
    return table


def _label(row: StandardEndpoint, rows: Sequence[StandardEndpoint]) -> str:
    several = sum(each.name == row.name for each in rows) > 1
    return f"{row.name} {row.metric}" if several else row.name


def _caption(rows: Sequence[StandardEndpoint], seeds: int) -> str:
    lines = ["first arm: its score; others: their difference, better above 0"]
    if any(row.metric is None for row in rows):
        lines.append("macro: the mean of the six tasks")
    if seeds == 1:
        lines.append("one seed: no verdict")
    else:
        lines.append(f"± and [ ]: 95% intervals over {seeds} seeds, and over the items")
    if any(row.floor is not None for row in rows):
        lines.append("floor: what the scale of the loss alone does; less is not a finding")
    if not any(row.primary for row in rows):
        lines.append("exploratory: it was not named before")
    return "\n".join(lines)
