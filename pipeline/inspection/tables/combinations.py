"""One line per combination of settings, with the settings in which they differ."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.table import Table

from ..json_types import RowJson, SubjectJson
from ..subject import ALWAYS_NAMED, SETTINGS
from .printer import Printer
from .sources import print_sources
from .words import capacity, figure, percent, settings_line, tail_sum, value_text

__all__ = ["print_combinations"]


class _Column(NamedTuple):
    """A figure of a combination: its title, its text, and an explanation if it needs one."""

    title: str
    show: Callable[[RowJson], str]
    meaning: str = ""


COLUMNS = {
    "windows": _Column("\n\nwindows", lambda row: f"{row['windows']:,}"),
    "padding": _Column("\n\npadding", lambda row: percent(row["padding"], capacity(row))),
    "split documents": _Column(
        "\nsplit\ndocs",
        lambda row: percent(row["cut_documents"], row["documents"]),
        "split docs: documents split across windows",
    ),
    "tail": _Column(
        "tail's\ntarget\nshare",
        lambda row: f"{tail_sum(row, 'share'):.2%}",
        "tail: the buckets of effective context from tau on",
    ),
    "tail's weight share": _Column(
        "tail's\nweight\nshare",
        lambda row: f"{tail_sum(row, 'mass_after'):.2%}",
        "weight share: the tail's share of the total loss weight",
    ),
    "windows with a tail": _Column(
        "windows\nwith a\ntail", lambda row: percent(row["tail_windows"], row["windows"])
    ),
    "largest weight": _Column("\nlargest\nweight", lambda row: f"{row['largest_weight']:.3f}"),
    "effective sample": _Column(
        "\nsample\nsize",
        lambda row: figure(row["effective_sample_size"], ".2%"),
        "sample size: the effective sample size, (sum w)^2 / sum w^2, relative to the number "
        "of targets",
    ),
}
LEAST_WANTED = (
    "split documents",
    "windows",
    "tail's weight share",
    "padding",
    "largest weight",
    "effective sample",
    "windows with a tail",
)
"""Figures in the order in which they are left out on a narrow terminal."""


def print_combinations(
    printer: Printer, subjects: Sequence[SubjectJson], *, by_source: bool
) -> None:
    """Prints the combinations of all subjects in one table, below the settings they share."""
    rows = [(subject["path"], row) for subject in subjects for row in subject["rows"]]
    varying = _varying([row for _, row in rows])
    several = len(subjects) > 1
    shared = [name for name in SETTINGS if name not in varying]
    printer.line(settings_line(rows[0][1]["settings"], shared))
    printer.line()
    _print_table(printer, rows, varying, several=several)
    for path, row in rows if by_source else ():
        named = settings_line(row["settings"], varying or ALWAYS_NAMED)
        printer.line(f"\n{path + ': ' if several else ''}{named}\n")
        print_sources(printer, row)


def _varying(rows: Sequence[RowJson]) -> list[str]:
    """The settings that are not the same in all rows."""
    return [
        name
        for name in SETTINGS
        if len({json.dumps(row["settings"][name], sort_keys=True) for row in rows}) > 1
    ]


def _print_table(
    printer: Printer, rows: Sequence[tuple[str, RowJson]], varying: Sequence[str], *, several: bool
) -> None:
    """Prints as many columns as fit, and says what they mean and which are left out."""
    columns = dict(COLUMNS)

    def table() -> Table:
        found = printer.new_table(
            *(["\n\npath"] if several else []),
            *(f"\n\n{name}".replace("_", "\n")[-20:] for name in varying),
            *(column.title for column in columns.values()),
        )
        for path, row in rows:
            found.add_row(
                *([path] if several else []),
                *(value_text(row["settings"][name]) for name in varying),
                *(column.show(row) for column in columns.values()),
            )
        return found

    for name in LEAST_WANTED:
        if printer.fits(table()):
            break
        del columns[name]
    printer.table(table())
    printer.line()
    printer.line("; ".join(column.meaning for column in columns.values() if column.meaning))
    if len(columns) < len(COLUMNS):
        missing = ", ".join(name for name in COLUMNS if name not in columns)
        printer.line(f"too wide for this terminal, but in --json: {missing}")
