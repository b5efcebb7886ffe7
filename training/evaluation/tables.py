"""Summaries of evaluations as tables for a person."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from .assemble import DOCUMENT
from .config import ANSWERED
from .facts import ALTERNATIVES
from .nolima.summary import effective_lines
from .ruler.tables import ruler_notes, ruler_tables
from .standard.tables import standard_note, standard_tables
from .summary import RECURRENCE

__all__ = ["evaluation_tables"]

Row = Mapping[str, Any]

STARRED = ("probe", "buckets")
"""The suites whose tables have distances or contexts."""

MEASURES = ("gain", "preference", "control")


def evaluation_tables(summaries: Sequence[Mapping[str, Any]]) -> Iterator[Table | Text]:
    """Yields the tables of each evaluation, with a line that explains those of its kind."""
    for found in summaries:
        if found["suite"] == "probe":
            yield from _probe_tables(found)
        elif found["suite"] == "buckets":
            yield from _bucket_tables(found)
    ruler = [found for found in summaries if found["suite"] in ANSWERED]
    yield from ruler_tables(ruler)
    standard = [found for found in summaries if found["suite"] == "standard"]
    yield from standard_tables(standard)
    suites = {found["suite"] for found in summaries}
    contexts = {row["context"] for found in summaries for row in found["rows"] if "context" in row}
    if contexts:
        yield Text(
            "gain: what the evidence adds to the log-probability of the answer, in nats\n"
            f"preference: how often the answer beats its {ALTERNATIVES} alternatives; "
            f"control: the same without the evidence, by chance {1 / (ALTERNATIVES + 1):.3f}"
        )
    if contexts - {DOCUMENT}:
        yield Text(
            "fixed: all prompts have the full length; minimal: little stands before the evidence"
        )
    if DOCUMENT in contexts:
        yield Text(
            "document: real text, in which a rare sequence comes back, at about these distances;\n"
            "what stands around the answer lifts the control above chance"
        )
    if "buckets" in suites:
        yield Text(
            "gain: the loss with a short context minus the loss with the whole one, in nats\n"
            "recurrence: how far back the same two tokens stand"
        )
    if ruler:
        yield from ruler_notes(ruler)
        yield from map(Text, effective_lines(ruler))
    if standard:
        yield standard_note(standard)
    if any(found["tau"] is not None for found in summaries if found["suite"] in STARRED):
        yield Text("* in the tail: at least tau")


def _table(found: Mapping[str, Any], more: str = "") -> Table:
    title = f"{found['model']}: {found['suite']}, {found['length']:,} tokens{more}"
    if found["extrapolated"]:
        title += ", beyond the model's positions"
    return Table(title=Text(title), title_justify="left")


def _label(low: int, high: int, tau: int | None) -> str:
    text = f"{low:,}" if low == high else f"{low:,}-{high:,}"
    return text + (" *" if tau is not None and low >= tau else "")


def _probe_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    rows = [row for row in found["rows"] if row["task"] is None]
    inserted = [row for row in rows if row["context"] != DOCUMENT]
    natural = [row for row in rows if row["context"] == DOCUMENT]
    if inserted:
        yield _probe_table(_table(found), inserted, found["tau"])
    if natural:
        yield _probe_table(_table(found, ", natural"), natural, found["tau"])


def _probe_table(table: Table, rows: Sequence[Row], tau: int | None) -> Table:
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    table.add_column("distance")
    for context in contexts:
        for measure in MEASURES:
            table.add_column(f"{context}\n{measure}", justify="right")
    by_place = {(row["context"], row["distance"]): row for row in rows}
    for distance in sorted({row["distance"] for row in rows}):
        cells = [cell for context in contexts for cell in _cells(by_place.get((context, distance)))]
        table.add_row(_label(distance, distance, tau), *cells)
    return table


def _cells(row: Row | None) -> tuple[str, ...]:
    if row is None:
        return ("",) * len(MEASURES)
    return _signed(row["gain"], 3), f"{row['preference']:.3f}", f"{row['control']:.3f}"


def _signed(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:+.{places}f}"  # no -0.000


def _bucket_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    by_name: dict[str, list[Row]] = {}
    for row in found["rows"]:
        by_name.setdefault(row["table"], []).append(row)
    recurrence = by_name.pop(RECURRENCE, None)
    if by_name:
        yield _by_context(found, by_name)
    if recurrence is not None:
        yield _by_recurrence(found, recurrence)


def _by_context(found: Mapping[str, Any], by_name: Mapping[str, Sequence[Row]]) -> Table:
    table = _table(found)
    for heading in ("effective context", "targets"):
        table.add_column(heading, justify="right" if heading == "targets" else "left")
    for name in by_name:
        table.add_column("loss" if name == "bucket" else name, justify="right")
    for rows in zip(*by_name.values(), strict=True):
        cells = [
            f"{row['mean']:.4f}" if row["table"] == "bucket" else _signed(row["mean"], 4)
            for row in rows
        ]
        first = rows[0]
        label = _label(first["low"], first["high"], found["tau"])
        table.add_row(label, f"{first['targets']:,}", *cells)
    return table


def _by_recurrence(found: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    table = _table(found, ", by recurrence")
    table.add_column("distance")
    for heading in ("targets", "loss"):
        table.add_column(heading, justify="right")
    for row in rows:
        label = "none" if row["low"] is None else _label(row["low"], row["high"], found["tau"])
        table.add_row(label, f"{row['targets']:,}", f"{row['mean']:.4f}")
    return table
