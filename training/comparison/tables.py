"""A comparison as tables for a person."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from .losses import Delta, Losses
from .runs import Comparison

__all__ = ["comparison_tables"]


def comparison_tables(found: Comparison) -> Iterator[Any]:
    """What is compared, whether it may be, and the losses of each set."""
    yield _arms(found)
    if found.settings:
        yield _settings(found)
    yield _verdict(found)
    if found.losses:
        shown = (" after ".join(map(str, seeds)) for seeds in found.seeds)
        yield Text(f"means over seeds {', '.join(shown)}")
    if found.unmeasured:
        sets = ", ".join(found.unmeasured)
        yield Text(f"no table of eval {sets}: not measured by all runs after a common step")
    for losses in found.losses:
        yield _losses(losses, found)


def _arms(found: Comparison) -> Table:
    table = Table(title="Runs", title_justify="left")
    for column in ("arm", "run", "steps in common", "same windows as the baseline"):
        table.add_column(column)
    pairs = {pair.run: pair for pair in found.pairs}
    for arm, paths in found.arms.items():
        for path in paths:
            pair = pairs.get(path)
            if arm == found.baseline:
                table.add_row(arm, path, "", "baseline")
            elif pair is None:
                table.add_row(arm, path, "", "no run of the baseline has its seed")
            else:
                first = pair.first_difference
                same = "yes, by every digest" if first is None else f"not from step {first:,} on"
                table.add_row(arm, path, f"{pair.steps:,}", same)
    return table


def _settings(found: Comparison) -> Table:
    table = Table(title="Settings that differ", title_justify="left")
    paths = [path for paths in found.arms.values() for path in paths]
    table.add_column("setting")
    for path in paths:
        table.add_column(path)
    for name, values in found.settings.items():
        style = "yellow" if name in found.unwanted else None
        shown = ("" if values[path] is None else str(values[path]) for path in paths)
        table.add_row(name, *shown, style=style)
    return table


def _verdict(found: Comparison) -> Text:
    if found.is_paired:
        return Text("paired: same windows, and only the weighting differs", "green")
    reasons = [f"{name} differs" for name in found.unwanted]
    reasons += [f"the windows of eval {name} differ" for name in found.unlike]
    if any(pair.first_difference is not None for pair in found.pairs):
        reasons.append("the windows differ")
    if not found.pairs:
        reasons.append("no two runs share a seed")
    return Text(f"not paired: {', '.join(reasons)}", "yellow")


def _losses(losses: Losses, found: Comparison) -> Table:
    others = [arm for arm in found.arms if arm != found.baseline]
    table = Table(
        title=f"{losses.title}: unweighted loss",
        title_justify="left",
        caption="* in the tail; differences below 0 are better than the baseline",
        caption_justify="left",
    )
    table.add_column("effective context")
    table.add_column("targets", justify="right")
    table.add_column(found.baseline, justify="right")
    for arm in others:
        table.add_column(arm, justify="right")
        table.add_column("difference", justify="right")
    for row in losses.rows:
        label = "all" if row.contexts is None else f"{row.contexts[0]:,}-{row.contexts[1]:,}"
        cells = [cell for arm in others for cell in _cells(row.arms.get(arm))]
        table.add_row(
            label + (" *" if row.in_tail else ""),
            f"{row.targets:,}",
            f"{row.baseline:.4f}",
            *cells,
            end_section=row.contexts is None,
        )
    return table


def _cells(delta: Delta | None) -> tuple[str, str]:
    if delta is None:
        return "", ""
    interval = "" if delta.interval is None else f" ± {delta.interval:.4f}"
    difference = round(delta.delta, 4) + 0.0  # no -0.0000
    return f"{delta.loss:.4f}", f"{difference:+.4f}{interval}"
