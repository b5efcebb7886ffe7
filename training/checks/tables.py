"""The results of a check as a table for a person."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from ...schemas.sizes import plural
from .checks import Noise, percent
from .job import Report

__all__ = ["report_tables"]

STYLES = {"holds": "green", "fails": "bold red", "not asked": "dim"}


def report_tables(report: Report) -> Iterator[Table | Text]:
    """Yields a row per check, and a line on what counts as a change."""
    title = report.trainer if report.loop is None else f"{report.trainer}, {report.loop}"
    table = Table(title=Text(title), title_justify="left")
    for heading in ("what should hold", "outcome", "what was seen"):
        table.add_column(heading)
    for result in report.results:
        table.add_row(result.says, Text(result.outcome, STYLES[result.outcome]), result.seen)
    yield table
    failed = sum(result.outcome == "fails" for result in report.results)
    yield Text(f"{plural(failed, 'check')} failed" if failed else "everything that was asked holds")
    if report.noise.unit:
        yield _noise(report.noise)


def _noise(noise: Noise) -> Text:
    return Text(
        "changes of the gradient are relative to its norm; one counts above "
        f"{percent(noise.exact)}, or above {percent(noise.sums)} where sums are compared"
    )
