"""Scores of `ruler`, `latent` and `nolima` as tables for a person: tasks by lengths."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from .summary import MEASURES

__all__ = ["ABOUT", "ruler_notes", "ruler_tables"]

Found = Mapping[str, Any]

TITLES = {
    "loglik": "log-probability of the right answer, in nats per token",
    "choice": "how often the right answer beats all others",
    "match": "share of the right answers that the output has",
}


ABOUT = {
    "ruler": "own wording and haystack: published scores of RULER are of other prompts",
    "latent": "latent is exactcpt's own: it is not NoLiMa, and has no published scores",
    "nolima": "nolima: the needles and books of NoLiMa, put as to a base model, without a chat "
    "template:\npublished scores are of chat models",
}
"""What the scores of a suite are, and what they are not."""


def ruler_tables(summaries: Sequence[Found]) -> Iterator[Table]:
    """Yields a table for each model, each suite and each measure that it has."""
    by_model: dict[str, list[Found]] = {}
    for found in summaries:
        by_model.setdefault(f"{found['model']}: {found['suite']}", []).append(found)
    for title, lengths in by_model.items():
        for measure in MEASURES:
            if any(measure in row for found in lengths for row in found["rows"]):
                yield _table(title, measure, lengths)


def _table(title: str, measure: str, lengths: Sequence[Found]) -> Table:
    table = Table(title=Text(f"{title}, {TITLES[measure]}"), title_justify="left")
    table.add_column("task")
    for found in lengths:
        beyond = " +" if found["extrapolated"] else ""
        table.add_column(f"{found['length']:,}{beyond}", justify="right")
    *tasks, means = zip(*(found["rows"] for found in lengths), strict=True)
    having = [rows for rows in tasks if rows[0].get(measure) is not None]
    for rows in having:
        cells = [_cell(measure, row) for row in rows]
        table.add_row(rows[0]["task"], *cells, end_section=rows is having[-1])
    name = means[0]["score"] if len(having) == len(tasks) else None
    table.add_row(name or "mean", *(_cell(measure, row) for row in means))
    return table


def _cell(measure: str, row: Mapping[str, Any]) -> str:
    value = row.get(measure)
    return "" if value is None else f"{value:.3f}"


def ruler_notes(summaries: Sequence[Found]) -> Iterator[Text]:
    """Yields what explains the tables."""
    suites = list(dict.fromkeys(found["suite"] for found in summaries))
    lines: list[str] = []
    if {*suites} - {"nolima"}:
        lines.append("columns: tokens of the prompts with their answers")
    if "nolima" in suites:
        lines.append("columns of nolima: tokens of the text around the needle")
    if any(found["extrapolated"] for found in summaries):
        lines.append("+ beyond the model's positions")
    lines += [ABOUT[suite] for suite in suites]
    yield Text("\n".join(lines))
