"""A forecast of a study as comments of a shell: for each training, for each stage, for all."""

import io
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ...schemas.fitting import fitted
from ...schemas.sizes import plural
from ...schemas.terminal import console
from ..config import Card
from ..run.forecast import LEAST_MFU, MOST_MFU
from .forecasts import OnGpus, StageForecast, StepForecast, forecast_stages

__all__ = ["forecast_lines", "in_short"]

WIDTH = 100
"""Characters of a line."""
HEADINGS = ("window", "tau", "runs", "tokens", "GPUs", "GB", "hours of a run", "of all")
UNITS = ((10**9, "B"), (10**6, "M"), (10**3, "K"))
LEAST = 0.01
"""Fewer hours are not told apart."""


def in_short(step: StepForecast) -> str | None:
    """Tokens, memory and hours of a training in one line; None if nothing is known."""
    on = [
        f"{plural(each.ranks, 'GPU')}: {_gb(each.memory.total)} GB"
        f"{'' if each.fits else ', too much'}, {_hours(each.hours)} h"
        for each in (step.found.on if step.found is not None else ())
    ]
    return None if step.tokens is None else "; ".join([plural(step.tokens, "token"), *on])


def forecast_lines(
    steps: Sequence[StepForecast], card: Card, ranks: Sequence[int], differs: Sequence[str]
) -> Iterator[str]:
    """Yields the table of the stages, what is unknown and why, and what the figures are worth.

    Args:
        steps: the trainings.
        card: the GPU they are planned for.
        ranks: numbers of GPUs.
        differs: what differs from the paper, in sentences.
    """
    stages = list(forecast_stages(steps))
    if stages:
        yield f"What the trainings take on {card}:"
        yield from _printed(_table(stages, ranks))
    for count in ranks:
        lacking = [each.stage for each in stages if count not in [on.ranks for on in each.on]]
        if lacking:
            yield f"{plural(count, 'GPU')} cannot share the global_batch of {', '.join(lacking)}."
    yield from _unknown(steps)
    if any(each.is_bound for each in stages):
        yield "* These windows are not there yet. Hours are as if each were one document: the most"
        yield "  that attention can take."
    if stages:
        yield f"Hours are those of an MFU of {LEAST_MFU:.0%} to {MOST_MFU:.0%}, of training alone:"
        yield "no preparing, no evaluation, no checkpoints. Memory is counted from config.json."
        yield "Neither was measured on a GPU."
    if differs:
        yield "What differs from the paper:"
        yield from (f"- {line}" for line in differs)


def _table(stages: Sequence[StageForecast], ranks: Sequence[int]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("stage", overflow="fold")
    for heading in HEADINGS:
        table.add_column(heading, justify="right", overflow="fold")
    for stage in stages:
        cells = [
            f"{stage.stage}{'*' if stage.is_bound else ''}",
            f"{stage.window:,}",
            "" if stage.tau is None else f"{stage.tau:,}",
            f"{stage.runs:,}",
            _short(stage.tokens),
        ]
        rows = [_cells(on) for on in stage.on] or [()]
        for number, row in enumerate(rows):
            table.add_row(*(cells if not number else [""] * len(cells)), *row)
    table.add_section()
    runs, tokens = (sum(each) for each in zip(*((s.runs, s.tokens) for s in stages), strict=True))
    cells = ["together", "", "", f"{runs:,}", _short(tokens)]
    for count in ranks:
        same = [on for stage in stages for on in stage.on if on.ranks == count]
        if len(same) == len(stages):
            together = sum(on.together[0] for on in same), sum(on.together[1] for on in same)
            table.add_row(*cells, f"{count:,}", "", "", _hours(together))
            cells = [""] * len(cells)
    return table


def _cells(on: OnGpus) -> tuple[str, ...]:
    too_much = "" if on.fits else ", too much"
    return f"{on.ranks:,}", f"{_gb(on.memory)}{too_much}", _hours(on.each), _hours(on.together)


def _unknown(steps: Sequence[StepForecast]) -> Iterator[str]:
    """Yields each reason once, with the stages that it concerns."""
    reasons: dict[str, dict[str, None]] = {}
    for each in steps:
        if each.unknown is not None:
            reasons.setdefault(str(each.unknown), {})[each.step.kind] = None
    for reason, kinds in reasons.items():
        yield f"Memory and hours are not known for {', '.join(kinds)}:"
        yield from (f"  {line}" for line in reason.splitlines())


def _printed(table: Table) -> Iterator[str]:
    file = io.StringIO()
    printer = console(file=file, width=WIDTH, soft_wrap=True)
    for part in fitted(table, printer):
        printer.print(part)
    yield from (line.rstrip() for line in file.getvalue().splitlines())


def _gb(amount: int) -> str:
    return f"{amount / 1e9:,.1f}"


def _short(tokens: int) -> str:
    """A count in the units of --max-tokens: 999M, 1.05B."""
    for unit, name in UNITS:
        if tokens >= unit:
            return f"{tokens / unit:,.{0 if tokens >= 100 * unit else 1}f}{name}"
    return f"{tokens:,}"


def _hours(both: tuple[float, float]) -> str:
    least, most = both
    if most < LEAST:
        return f"under {LEAST}"
    form = ",.2g" if most < 10 else ",.0f"
    return f"{least:{form}} to {most:{form}}"
