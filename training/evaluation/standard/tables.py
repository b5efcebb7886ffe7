"""Scores of `standard` as tables for a person: a table for each model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from .tasks import MACRO, SIX

__all__ = ["standard_note", "standard_tables"]

Found = Mapping[str, Any]


def standard_tables(summaries: Sequence[Found]) -> Iterator[Table]:
    """Yields a table for each model: a row for each score, and the mean if all six are there."""
    by_model: dict[str, list[Found]] = {}
    for found in summaries:
        by_model.setdefault(found["model"], []).append(found)
    for model, tasks in by_model.items():
        yield _table(model, tasks)


def _table(model: str, tasks: Sequence[Found]) -> Table:
    table = Table(title=Text(f"{model}: standard"), title_justify="left")
    table.add_column("task")
    for heading in ("shots", "items"):
        table.add_column(heading, justify="right")
    table.add_column("score of an item")
    table.add_column("mean", justify="right")
    rows = [(found["shots"], row) for found in tasks for row in found["rows"]]
    six = {row["task"]: row["score"] for _, row in rows if row["task"] in SIX}
    has_all = len(six) == len(SIX)
    for number, (shots, row) in enumerate(rows, 1):
        table.add_row(
            row["task"],
            "its own" if shots is None else str(shots),
            f"{row['items']:,}",
            row["metric"],
            f"{row['score']:.4f}",
            end_section=has_all and number == len(rows),
        )
    if has_all:
        table.add_row(MACRO, "", "", "", f"{sum(six.values()) / len(six):.4f}")
    return table


def standard_note(summaries: Sequence[Found]) -> Text:
    """What explains the tables."""
    harness = ", ".join(sorted({found["harness"] for found in summaries}))
    lines = [f"by lm-evaluation-harness {harness}"]
    tasks = {row["task"] for found in summaries for row in found["rows"]}
    if {*SIX} <= tasks:
        lines.append(f"{MACRO}: the mean of the six tasks")
    if any(found["asked"] is not None for found in summaries):
        lines.append("some items of each task only: published scores are of all of them")
    if any(found["is_local"] for found in summaries):
        lines.append("items of --data: published scores are of the whole data sets")
    return Text("\n".join(lines))
