"""What the probe found, as tables for a person."""

from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from ...schemas.sizes import plural
from ..evaluation.assemble import DOCUMENT
from .cells import borderless, interval_cells
from .endpoints import Endpoint, Evaluation, Finding

__all__ = ["distance_label", "gain_table", "probe_notes", "tail_lines"]


def gain_table(found: Evaluation, context: str, baseline: str, others: Sequence[str]) -> Table:
    """The gains of the baseline and of some other arms, in prompts of one context."""
    rows = [endpoint for endpoint in found.endpoints if endpoint.context == context]
    table = borderless(_title(found, context), _caption(found, rows), "distance")
    headings = [h for arm in others for h in (arm, "over items", "relative")]
    for heading in (baseline, *(["floor"] if _has_floor(rows) else []), *headings):
        table.add_column(heading, justify="right")
    summaries = [row.name for row in rows if row.distance is None]
    for row in rows:
        floor = [f"{row.floor:.4f}"] if row.floor is not None else []
        cells = [cell for arm in others for cell in _cells(row, row.arms[arm])]
        table.add_row(
            distance_label(row, found.tau),
            f"{row.baseline:+.4f}",
            *floor,
            *cells,
            end_section=bool(summaries) and row.name == summaries[-1],
        )
    return table


def _title(found: Evaluation, context: str) -> str:
    beyond = ", longer than the windows of the training" if found.extrapolated else ""
    return (
        f"Probe, prompts of {found.length:,} tokens{beyond}, context {context}, ablation "
        f"{found.ablation}: gain of the evidence in nats"
    )


def _caption(found: Evaluation, rows: Sequence[Endpoint]) -> str:
    lines = ["first arm: its gain; others: their difference, above 0 where evidence is worth more"]
    if any(row.name == "slope" for row in rows):
        lines.append("slope: nats per doubling of the distance")
    lines += tail_lines(found.tau, rows[0].context)
    if found.seeds == 1:
        lines.append("one seed: no verdict")
    else:
        lines.append(f"± and [ ]: 95% intervals over {found.seeds} seeds, and over the facts")
    if _has_floor(rows):
        lines.append("floor: what the scale of the loss alone does; less is not a finding")
    if not any(row.primary for row in rows):
        lines.append("exploratory: no endpoint was named before")
    return "\n".join(lines)


def _has_floor(rows: Sequence[Endpoint]) -> bool:
    return any(row.floor is not None for row in rows)


def distance_label(row: Endpoint, tau: int | None) -> str:
    """The name of a summary, or a distance, with a star if it is at least tau.

    Natural places are shown at the nearest distance of the grid, on either side of tau: no star.
    """
    if row.distance is None:
        return row.name
    is_far = tau is not None and row.distance >= tau and row.context != DOCUMENT
    return f"{row.distance:,}" + (" *" if is_far else "")


def tail_lines(tau: int | None, context: str) -> list[str]:
    """What far and near are, for a caption."""
    if tau is None:
        return []
    if context == DOCUMENT:
        return [
            "each place is shown at the nearest distance of the grid",
            f"far: the mean over places at least tau = {tau:,} tokens away; near: over the others",
        ]
    return [
        f"* at least tau = {tau:,} tokens from the answer",
        "far: the mean over such distances; near: the mean over the others",
    ]


def _cells(row: Endpoint, found: Finding) -> tuple[str, str, str]:
    relative = f"{found.delta / row.baseline:+.0%}" if row.baseline else ""
    return (*interval_cells(found), relative)


def probe_notes(unprobed: Sequence[str]) -> Iterator[Text]:
    """Yields a line about runs that were not evaluated with all items."""
    if unprobed:
        yield Text(
            f"{plural(len(unprobed), 'run')} not evaluated with all items of the others, which are "
            f"left out: {', '.join(unprobed)}",
            "yellow",
        )
