"""What came of a study as tables for a person. They are as wide as asked, and no figure is cut."""

import textwrap
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...schemas.fitting import fitted
from ...schemas.sizes import plural
from ..comparison.endpoints import Endpoint, Evaluation
from ..comparison.probe_tables import distance_label, tail_lines
from .config import Study
from .results import OfBase, Results, StageResults
from .verdicts import Verdict

__all__ = ["result_tables"]

Column = tuple[str, Sequence[str]]
"""A heading and one cell for each row."""

NARROWEST = 40
"""Characters of a line that a sentence needs."""

STYLES = {"supported": "green", "contradicted": "red"}


def result_tables(found: Results, console: Console) -> Iterator[Table | Text]:
    """Yields the verdicts, what differs from the paper, the tables, and what has failed.

    Args:
        found: the results.
        console: where they are printed; a table that is wider gets several blocks of columns.
    """
    yield _wrapped(f"Study {found.study.name}", console, style="bold")
    if found.study.differs:
        yield _wrapped("What differs from the paper:", console)
        for line in found.study.differs:
            yield _wrapped(line, console, "- ")
    for section in found.changed:
        line = f"[{section}] has changed since the study was registered"
        yield _wrapped(line, console, style="yellow")
    for stage in found.stages:
        yield from _stage_tables(found.study, stage, console)
    yield from _bases(found, console)
    for failure in found.failures:
        yield _wrapped(f"{failure.step}: {failure.reason}", console, "not done: ", style="yellow")
    yield from _verdicts(found, console)


def _wrapped(text: str, console: Console, label: str = "", style: str = "") -> Text:
    """A sentence on as many lines as it needs; a label stands before the first."""
    lines = textwrap.wrap(
        text, max(NARROWEST, console.width), initial_indent=label, subsequent_indent="  "
    )
    return Text("\n".join(lines), style)


def _stage_tables(study: Study, stage: StageResults, console: Console) -> Iterator[Table | Text]:
    found = stage.comparison
    if found is None:
        line = f"Stage {stage.stage}: no two arms can be compared"
        yield _wrapped(line, console, style="yellow")
        return
    left = stage.pairs - len(stage.compared)
    without = f"; {plural(left, 'pair')} left out, where an arm was not trained" if left else ""
    compared = plural(len(stage.compared), "pair")
    yield _wrapped(f"Stage {stage.stage}: {compared} of runs{without}", console)
    if not found.is_paired:
        line = "not paired: exactcpt compare tells in what these runs differ"
        yield _wrapped(line, console, style="yellow")
    for arm, count in found.skipped_by_arm.items():
        line = f"{arm} skipped {plural(count, 'step')}: a loss or the gradient was not finite"
        yield _wrapped(line, console, style="yellow")
    for probed in found.probed:
        for context in dict.fromkeys(endpoint.context for endpoint in probed.endpoints):
            yield from _gains(study, stage, probed, context, console)
        yield from _by_base(stage.by_base.get(probed.length, []), console)


def _gains(
    study: Study, stage: StageResults, found: Evaluation, context: str, console: Console
) -> Iterator[Table | Text]:
    """The main table: rows are arms, columns distances, the last row is the noise floor."""
    rows = [endpoint for endpoint in found.endpoints if endpoint.context == context]
    arms = [arm for arm in study.arms if arm in rows[0].arms]
    has_floor = any(row.floor is not None for row in rows)
    names = [study.baseline, *arms, *(["noise floor"] if has_floor else [])]
    columns = [(distance_label(row, found.tau), _column(row, arms, has_floor)) for row in rows]
    beyond = ", longer than the windows of the training" if found.extrapolated else ""
    title = (
        f"Gain of the evidence in nats, by its distance: prompts of {found.length:,} tokens"
        f"{beyond}, context {context}"
    )
    verdict = "one pair: no verdict" if found.seeds == 1 else f"± 95% over {found.seeds} pairs"
    lines = [
        f"{study.baseline}: its gain; other arms: difference from it, {verdict}",
        *tail_lines(found.tau, context),
        "slope: nats per doubling of the distance",
    ]
    caption = "\n".join(lines)
    yield from _table(title, caption, ("arm", names), columns, console)


def _column(row: Endpoint, arms: Sequence[str], has_floor: bool) -> list[str]:
    cells = [f"{row.baseline:.3f}"]
    cells += [_cell(row.arms[arm].delta, row.arms[arm].over_seeds) for arm in arms]
    if has_floor:
        cells.append("" if row.floor is None else f"{row.floor:.3f}")
    return cells


def _cell(delta: float, half: float | None) -> str:
    shown = f"{round(delta, 3) + 0.0:+.3f}"  # no -0.000
    return shown if half is None else f"{shown} ± {half:.3f}"


def _by_base(rows: Sequence[OfBase], console: Console) -> Iterator[Table | Text]:
    """The summaries on each base: rows are arms and bases."""
    if not rows:
        return
    figures = dict.fromkeys((row.context, row.figure) for row in rows)
    lines = list(dict.fromkeys((row.arm, row.base) for row in rows))
    cells = {
        (row.context, row.figure, row.arm, row.base): _cell(row.delta, row.over_seeds)
        for row in rows
    }
    columns = [
        (f"{figure}, {context}", [cells.get((context, figure, *line), "") for line in lines])
        for context, figure in figures
    ]
    names = [f"{arm}, base {base}" for arm, base in lines]
    title, caption = "By base: difference from the baseline in nats", "± 95% over the seeds"
    yield from _table(title, caption, ("arm", names), columns, console)


def _table(
    title: str, caption: str, first: Column, columns: Sequence[Column], console: Console
) -> Iterator[Table | Text]:
    """Yields a table, or several with the same first column if it is too wide for the console."""
    table = Table(
        title=_folded(title, console),
        title_justify="left",
        caption=_folded(caption, console),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column(first[0])
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for cells in zip(*(cells for _, cells in (first, *columns)), strict=True):
        table.add_row(*cells)
    yield from fitted(table, console)


def _folded(text: str, console: Console) -> str:
    width = max(NARROWEST, console.width)
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width))


def _bases(found: Results, console: Console) -> Iterator[Text]:
    for each in found.candidates or ():
        gain = "" if each.gain is None else f", gain {each.gain:.3f} nats at the gate"
        longer = f", trained {each.times} times its plan" if each.times > 1 else ""
        how = {True: "a base", False: "not a base", None: "not finished"}[each.passed]
        reason = f": {each.reason}" if each.reason else ""
        yield _wrapped(f"base {each.seed}: {how}{longer}{gain}{reason}", console)
    lacking = found.lacking_bases
    if lacking:
        line = f"{plural(lacking, 'base')} fewer than wanted: the candidates are spent"
        yield _wrapped(line, console, style="yellow")


def _verdicts(found: Results, console: Console) -> Iterator[Text]:
    if not found.verdicts:
        yield _wrapped("exploratory: no endpoint was registered", console, style="yellow")
    tests = sum(each.adjusted is not None for each in found.verdicts)
    for each in found.verdicts:
        yield _wrapped(
            f"{_claim(each)}: {each.outcome}{_figures(each, tests)}",
            console,
            style=STYLES.get(each.outcome, "yellow"),
        )


def _claim(verdict: Verdict) -> str:
    at = "" if verdict.length is None else f", prompts of {verdict.length:,} tokens"
    where = f"{verdict.endpoint} (stage {verdict.stage}, context {verdict.context}{at})"
    if verdict.claim == "greater":
        return f"{where}: {verdict.arm} is greater than {verdict.against}"
    return f"{where}: {verdict.arm} is within {verdict.margin:g} nats of {verdict.against}"


def _figures(verdict: Verdict, tests: int) -> str:
    parts: list[str] = []
    if verdict.why is not None:
        parts.append(verdict.why)
    if verdict.difference is not None:
        pairs = plural(verdict.pairs, "pair")
        parts.append(f"{_cell(verdict.difference, verdict.half_width)} nats over {pairs}")
    if verdict.by_base:
        means = (f"{_cell(mean, None)} on base {base}" for base, mean in verdict.by_base.items())
        parts.append(", ".join(means))
    if verdict.unlike and verdict.difference is not None:
        parts.append(f"{plural(verdict.unlike, 'pair')} left out, trained on different windows")
    if verdict.adjusted is not None:
        parts.append(f"p {verdict.adjusted:.4f} by Holm over {plural(tests, 'claim')}")
    if verdict.floor is not None:
        parts.append(f"noise floor {verdict.floor:.3f}")
    if verdict.detectable is not None:
        parts.append(f"finds {verdict.detectable:.3f} with 80% power")
    return f" ({'; '.join(parts)})" if parts else ""
