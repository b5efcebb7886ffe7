"""The files with what came of a study, each written whole."""

import io
import json
from pathlib import Path

from ...schemas.disk import written_whole
from ...schemas.terminal import console
from ..comparison.picture import draw_gains
from .places import GAINS, RESULTS, TABLE
from .results import Results
from .tables import result_tables

__all__ = ["write_results"]

WIDTH = 120
"""Characters of a line of the tables."""


def write_results(found: Results, folder: Path) -> None:
    """Writes the results as JSON, as text, and as a picture if there is something to draw."""
    files = {
        RESULTS: json.dumps(found.to_json(), indent=2, ensure_ascii=False) + "\n",
        TABLE: _text(found),
    }
    comparisons = {each.stage: each.comparison for each in found.stages}
    drawn = draw_gains({name: each for name, each in comparisons.items() if each is not None})
    if drawn is not None:
        files[GAINS] = drawn
    for name, text in files.items():
        with written_whole(folder / name) as scratch:
            scratch.write_text(text, "utf-8", errors="backslashreplace")


def _text(found: Results) -> str:
    file = io.StringIO()
    printer = console(file=file, width=WIDTH, soft_wrap=True)
    for table in result_tables(found, printer):
        printer.print(table)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())
