"""A comparison as tables for a person. No figure in them is cut, however narrow the console."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...schemas.fitting import fits, fitted
from ...schemas.sizes import plural
from .losses import Delta, Losses
from .primary import primary_table
from .probe_tables import gain_table, probe_notes
from .ruler_tables import ruler_table
from .runs import Comparison
from .standard_table import standard_table

__all__ = ["comparison_tables"]


def comparison_tables(found: Comparison, console: Console) -> Iterator[Table | Text]:
    """Yields the runs, the settings that differ, whether they are pairs, and all that was found.

    Args:
        found: the comparison.
        console: where the tables are printed. One that is too wide for it becomes several, with
            some arms each; one with a single arm that is too wide, several with some columns each.
    """
    for part in _parts(found, console):
        yield from fitted(part, console)


def _parts(found: Comparison, console: Console) -> Iterator[Table | Text]:
    yield _arms(found)
    if found.settings:
        yield _settings(found)
    yield _verdict(found)
    for run, steps in found.skipped.items():
        yield Text(_skipped(run, steps), "yellow")
    if found.losses:
        shown = [" after ".join(map(str, seeds)) for seeds in found.seeds]
        over = "means over seeds" if len(shown) > 1 else "losses of seed"
        yield Text(f"{over} {', '.join(shown)}")
    if found.unmeasured:
        sets = ", ".join(found.unmeasured)
        noun = "eval set" if len(found.unmeasured) == 1 else "eval sets"
        yield Text(f"no table for the {noun} {sets}: not evaluated in all runs after a common step")
    others = [arm for arm in found.arms if arm != found.baseline]
    for losses in found.losses:
        measured = [arm for arm in others if any(arm in row.arms for row in losses.rows)]
        yield from _fitting(partial(_losses, losses, found.baseline), measured, console)
    for probed in found.probed:
        for context in dict.fromkeys(endpoint.context for endpoint in probed.endpoints):
            table = partial(gain_table, probed, context, found.baseline)
            yield from _fitting(table, list(probed.endpoints[0].arms), console)
    for ruler in found.ruler:
        table = partial(ruler_table, ruler, found.baseline)
        yield from _fitting(table, list(ruler.endpoints[0].arms), console)
    if found.standard:
        table = partial(standard_table, found.standard, len(found.seeds), found.baseline)
        yield from _fitting(table, list(found.standard[0].arms), console)
    primary = primary_table(found.probed, found.ruler, found.standard)
    if primary is not None:
        yield primary
    yield from probe_notes(found.unprobed)


def _fitting(
    table: Callable[[Sequence[str]], Table], arms: Sequence[str], console: Console
) -> Iterator[Table]:
    """Yields tables with as many arms as fit, at least one; they have one title and one caption."""
    groups: list[list[str]] = [[]]
    for arm in arms:
        if groups[-1] and not fits(table([*groups[-1], arm]), console):
            groups.append([])
        groups[-1].append(arm)
    for number, group in enumerate(groups):
        part = table(group)
        if number:
            part.title = None
        if number < len(groups) - 1:
            part.caption = None
        yield part


def _arms(found: Comparison) -> Table:
    table = Table(title="Runs", title_justify="left")
    for column in ("arm", "run", "steps in common", "same windows as the baseline"):
        justify = "right" if column == "steps in common" else "left"
        table.add_column(column, justify=justify, overflow="fold")
    pairs = {pair.run: pair for pair in found.pairs}
    for arm, paths in found.arms.items():
        for path in paths:
            pair = pairs.get(path)
            if arm == found.baseline:
                table.add_row(arm, path, "", "baseline")
            elif pair is None:
                table.add_row(arm, path, "", "the baseline has no run of this seed")
            else:
                first = pair.first_difference
                same = "yes, all digests agree" if first is None else f"not from step {first:,} on"
                table.add_row(arm, path, f"{pair.steps:,}", same)
    return table


def _settings(found: Comparison) -> Table:
    """A row for each setting and each value, or list of values, that some arms have."""
    table = Table(title="Settings that differ", title_justify="left")
    for heading in ("setting", "arms", "value"):
        table.add_column(heading, overflow="fold")
    for name, values in found.settings.items():
        if name == "arm":  # what arms are called is told by their names
            continue
        style = "yellow" if name in found.unwanted else None
        by_value = _by_value(found.arms, values)
        for number, (value, arms) in enumerate(by_value.items()):
            table.add_row(
                "" if number else name,
                "all" if len(by_value) == 1 else ", ".join(arms),
                value,
                style=style,
                end_section=number == len(by_value) - 1,
            )
    return table


def _by_value(arms: Mapping[str, Sequence[str]], values: Mapping[str, Any]) -> dict[str, list[str]]:
    """The values that the runs of an arm have -> the arms that have them."""
    found: dict[str, list[str]] = {}
    for arm, paths in arms.items():
        shown = dict.fromkeys(_shown(values[path]) for path in paths)
        found.setdefault(", ".join(shown), []).append(arm)
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return " ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in value)
    return str(value)


def _verdict(found: Comparison) -> Text:
    if found.is_paired:
        return Text("paired: same windows, and only the weighting differs", "green")
    reasons = [f"{name} differs" for name in found.unwanted]
    reasons += [f"the windows of the eval set {name} differ" for name in found.unlike]
    if any(pair.first_difference is not None for pair in found.pairs):
        reasons.append("the windows differ")
    if not all(pair.same_start for pair in found.pairs):
        reasons.append("the weights that they start from differ")
    if not found.pairs:
        reasons.append("no two runs share a seed")
    return Text(f"not paired: {', '.join(reasons)}", "yellow")


def _skipped(run: str, steps: Sequence[int]) -> str:
    """Which steps a run skipped, the first few by number."""
    told = ", ".join(f"{step:,}" for step in steps[:8]) + (" ..." if len(steps) > 8 else "")
    return (
        f"{run} skipped {plural(len(steps), 'step')} ({told}): a loss or the gradient was not "
        "finite, and the weights stayed as they were"
    )


def _losses(losses: Losses, baseline: str, others: Sequence[str]) -> Table:
    """The losses of the baseline and of some other arms."""
    table = Table(
        title=f"{losses.title}: unweighted loss",
        title_justify="left",
        caption="* in the tail; a difference below 0 is better than the baseline",
        caption_justify="left",
    )
    table.add_column("effective context", overflow="fold")
    for heading in ("targets", baseline, *(h for arm in others for h in (arm, "difference"))):
        table.add_column(heading, justify="right", overflow="fold")
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
