"""The scores of `ruler`, `latent` and `nolima`, arm against baseline, as tables for a person."""

from collections.abc import Sequence

from rich.table import Table

from ...schemas.sizes import plural
from ..evaluation.ruler.tables import ABOUT, TITLES
from .cells import borderless, interval_cells
from .ruler_endpoints import LENGTH, RulerEndpoint, RulerEvaluation

__all__ = ["ruler_table"]


def ruler_table(found: RulerEvaluation, baseline: str, others: Sequence[str]) -> Table:
    """The scores of the baseline and of some other arms, by length."""
    name = found.score or f"{found.suite}, {plural(found.tasks, 'task')}"
    table = borderless(f"{name}: {TITLES[found.measure]}", _caption(found), "tokens")
    has_floor = any(row.floor is not None for row in found.endpoints)
    headings = [h for arm in others for h in (arm, "over items")]
    for heading in (baseline, *(["floor"] if has_floor else []), *headings):
        table.add_column(heading, justify="right")
    summaries = [row for row in found.endpoints if row.name != LENGTH]
    for row in found.endpoints:
        floor = [f"{row.floor:.4f}"] if row.floor is not None else []
        cells = [cell for arm in others for cell in interval_cells(row.arms[arm])]
        table.add_row(
            _label(row), f"{row.baseline:.4f}", *floor, *cells, end_section=row is summaries[-1]
        )
    return table


def _label(row: RulerEndpoint) -> str:
    if row.name != LENGTH:
        return row.name
    return f"{row.lengths[0]:,}" + (" +" if row.extrapolated else "")


def _caption(found: RulerEvaluation) -> str:
    lines = ["first arm: its score; others: their difference, better above 0"]
    if any(row.extrapolated for row in found.endpoints):
        lines.append("+ and extrapolated: longer than the windows of the training")
    if found.seeds == 1:
        lines.append("one seed: no verdict")
    else:
        lines.append(f"± and [ ]: 95% intervals over {found.seeds} seeds, and over the items")
    if any(row.floor is not None for row in found.endpoints):
        lines.append("floor: what the scale of the loss alone does; less is not a finding")
    if not any(row.primary for row in found.endpoints):
        lines.append("exploratory: it was not named before")
    lines.append(ABOUT[found.suite])
    return "\n".join(lines)
